"""Experiments as plain dicts with local times."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from labkeep.core.commands import Experiment, Outcome
from labkeep.core.entities import Deletion, Json
from labkeep.core.errors import NotFound
from labkeep.core.ids import is_id


def existing(experiment_id: str) -> str:
    """An id that may exist. NotFound for one that cannot: every id is a UUID."""
    if not isinstance(experiment_id, str) or not is_id(experiment_id.lower()):
        raise NotFound(f"experiment {experiment_id!r} not found", id=str(experiment_id))
    return experiment_id.lower()


def as_dict(experiment: Experiment) -> Json:
    """The experiment as a dict; see `local_time`."""
    found: dict[str, Any] = msgspec.to_builtins(experiment, builtin_types=(datetime,))
    return {name: local_time(value) if isinstance(value, datetime) else value for name, value in found.items()}


def local_time(moment: datetime) -> str:
    """ISO 8601 in this machine's time zone, without an offset: what ``datetime.now().isoformat()`` writes."""
    return moment.astimezone().replace(tzinfo=None).isoformat()


def deletion_dict(experiment: Json, outcome: Outcome, record: Deletion | None) -> Json:
    """What ``delete`` answers."""
    until = outcome.restorable_until or (record.restorable_until if record else None)
    answer = {
        "experiment_id": experiment["id"],
        "deleted_at": local_time(record.created_at if record else datetime.now().astimezone()),
        "deletion_id": outcome.deletion_id,
        "restorable_until": local_time(until) if until else None,
    }
    answer["message"] = f"experiment {experiment['name']} is in the trash" + (
        f"; it can be restored until {answer['restorable_until']}" if until else ""
    )
    return answer

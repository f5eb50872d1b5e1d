"""Runs between the vendor's wire and ours. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from labkeep.core import json_values
from labkeep.core.entities import Json, Run
from labkeep.core.errors import Invalid
from labkeep.core.lifecycle import Status

DIALECT = "wandb"

INTERNAL = "_wandb"
"""Key of the client's own facts in a config: telemetry, defined metrics, environments."""

STATES: dict[Status, str] = {
    Status.draft: "pending",
    Status.queued: "pending",
    Status.running: "running",
    Status.finished: "finished",
    Status.failed: "failed",
    Status.crashed: "crashed",
    Status.stopped: "killed",
}
"""Our status -> their state."""

STATUSES: dict[str, Status] = {
    "pending": Status.queued,
    "running": Status.running,
    "preempting": Status.running,
    "finished": Status.finished,
    "failed": Status.failed,
    "crashed": Status.crashed,
    "preempted": Status.crashed,
    "killed": Status.stopped,
}
"""Their state -> our status."""


def moment(when: datetime | None) -> str | None:
    """A time on the wire: UTC, to the second's fraction that there is."""
    return None if when is None else when.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


def parse_json(text: str, what: str) -> Any:
    """JSON with the bare NaN and Infinity that the client writes. Invalid names ``what`` it was."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeEncodeError):
        pass
    try:
        found = json.loads(text)
        return found if json_values.is_unicode(json.dumps(found, ensure_ascii=False)) else _storable(found)
    except (ValueError, RecursionError) as error:
        raise Invalid(f"{what} is not JSON: {error}", path=what) from None


def _storable(value: Any) -> Any:
    """The value with a question mark for each half of a character pair, which no encoding can store."""
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, dict):
        return {_storable(key): _storable(inner) for key, inner in value.items()}
    return [_storable(inner) for inner in value] if isinstance(value, list) else value


def parse_object(text: str, what: str) -> Json:
    """A JSON object whose NaN and infinities are strings, so that any JSON parser reads them back."""
    found = parse_json(text, what)
    if not isinstance(found, dict):
        raise Invalid(f"{what} is not a JSON object", path=what)
    plain: Json = json_values.to_json(found)
    return plain


def status_of(state: str) -> Status:
    """Our status for their state; Invalid for a word that is none."""
    found = STATUSES.get(state.lower())
    if found is None:
        raise Invalid(f"{state[:40]!r} is not a state of runs; use one of {', '.join(STATUSES)}", path="state")
    return found


def state_of(run: Run) -> str:
    """Their state of a run."""
    if kept(run).get("preempting") and run.status in (Status.running, Status.crashed):
        return "preempting" if run.status == Status.running else "preempted"
    return STATES[run.status]


def kept(run: Run) -> Json:
    """What only this dialect knows of a run."""
    found = run.extra.get(DIALECT)
    return found if isinstance(found, dict) else {}


# --- config -----------------------------------------------------------------------------------------------------------


def config_in(text: str) -> tuple[Json, Json]:
    """(config, what is kept for the client) of a config on the wire, where each value is wrapped: ``{"value": 0.1}``."""
    plain: Json = {}
    described: Json = {}
    wrapped = parse_object(text, "config")
    for key, entry in wrapped.items():
        if key == INTERNAL:
            continue
        plain[key] = _unwrapped(entry)
        if isinstance(entry, dict) and isinstance(entry.get("desc"), str) and entry["desc"]:
            described[key] = entry["desc"]
    internal = _unwrapped(wrapped.get(INTERNAL))
    mine: Json = {"desc": described} if described else {}
    if isinstance(internal, dict):
        mine[INTERNAL] = internal
    return plain, mine


def _unwrapped(entry: Any) -> Any:
    return (
        entry["value"] if isinstance(entry, dict) and "value" in entry and entry.keys() <= {"value", "desc"} else entry
    )


def config_out(run: Run, keys: Iterable[str] | None = None) -> str:
    """The config as the client wrapped it."""
    described = kept(run).get("desc", {})
    wrapped = {key: {"value": value, "desc": described.get(key)} for key, value in run.config.items()}
    if INTERNAL in kept(run):
        wrapped[INTERNAL] = {"value": kept(run)[INTERNAL], "desc": None}
    if keys is not None:
        wrapped = {key: wrapped[key] for key in keys if key in wrapped}
    return dumps(wrapped)


def internal_out(run: Run, keys: Iterable[str] | None = None) -> str:
    """The client's own facts; a run of another dialect has just enough of them to count as one that can be resumed."""
    found: Json = kept(run).get(INTERNAL) or {"t": {}}
    return dumps(found if keys is None else {key: found[key] for key in keys if key in found})


def summary_out(run: Run, keys: Iterable[str] | None = None) -> str:
    """The summary."""
    summary: Mapping[str, Any] = run.summary
    return dumps(summary if keys is None else {key: summary[key] for key in keys if key in summary})


def dumps(value: Any) -> str:
    """JSON text."""
    return msgspec.json.encode(value).decode()

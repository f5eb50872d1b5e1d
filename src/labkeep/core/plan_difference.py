"""What sets two plans apart: counts, bytes, and what stands in the way or is named in only one of them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from labkeep.core.commands import Plan
from labkeep.core.entities import Json


class Change(msgspec.Struct, frozen=True):
    """A number that differs."""

    before: int
    after: int


class PlanDifference(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """From one plan to another. Lists hold what the plans show: at the most 100 entries of each."""

    same: bool
    """Whether both looked at the same objects in the same state: then either hash applies."""
    verb: tuple[str, str] | None = None
    counts: dict[str, Change] = {}
    """By kind, where they differ."""
    bytes: Change | None = None
    freed_bytes: Change | None = None
    blocked: Change | None = None
    blockers_added: list[Json] = []
    blockers_gone: list[Json] = []
    names_added: list[str] = []
    names_gone: list[str] = []
    unbinds_added: list[Json] = []
    unbinds_gone: list[Json] = []


def difference(before: Plan, after: Plan) -> PlanDifference:
    """What ``after`` says that ``before`` does not, and the other way round."""
    blockers = _lists(before.blockers, after.blockers)
    unbinds = _lists(before.unbinds, after.unbinds)
    return PlanDifference(
        same=before.hash == after.hash,
        verb=None if before.verb == after.verb else (before.verb, after.verb),
        counts=_counts(before.counts, after.counts),
        bytes=_change(before.bytes, after.bytes),
        freed_bytes=_change(before.freed_bytes, after.freed_bytes),
        blocked=_change(before.blocked, after.blocked),
        blockers_added=blockers[0],
        blockers_gone=blockers[1],
        names_added=[name for name in after.names_freed if name not in set(before.names_freed)],
        names_gone=[name for name in before.names_freed if name not in set(after.names_freed)],
        unbinds_added=unbinds[0],
        unbinds_gone=unbinds[1],
    )


def in_words(found: PlanDifference) -> str:
    """The difference in one line."""
    said = [f"{kind}: {change.before} → {change.after}" for kind, change in sorted(found.counts.items())]
    said += [f"stays now: {entry['reason']}" for entry in found.blockers_added[:3]]
    said += [f"no longer in the way: {entry['name']}" for entry in found.blockers_gone[:3]]
    said += [f"unbinds now: {entry['type']} {entry['name']}" for entry in found.unbinds_added[:3]]
    if found.bytes is not None:
        said.append(f"bytes: {found.bytes.before} → {found.bytes.after}")
    return "; ".join(said) or "objects were edited"


def _change(before: int, after: int) -> Change | None:
    return None if before == after else Change(before, after)


def _counts(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, Change]:
    pairs = {kind: Change(before.get(kind, 0), after.get(kind, 0)) for kind in sorted({*before, *after})}
    return {kind: change for kind, change in pairs.items() if change.before != change.after}


def _lists(before: Sequence[Any], after: Sequence[Any]) -> tuple[list[Json], list[Json]]:
    """Entries that only the second has, and those that only the first has."""
    old, new = ([msgspec.to_builtins(entry) for entry in entries] for entries in (before, after))
    return [entry for entry in new if entry not in old], [entry for entry in old if entry not in new]

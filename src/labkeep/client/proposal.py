"""A plan together with what it was asked for, so that it can be applied as it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labkeep.core.commands import Plan
from labkeep.core.errors import Invalid

SELECTION = ("ids", "q", "project", "kind", "deletion_id")


class Proposal(Plan, frozen=True, kw_only=True):
    """What a verb would do. ``request`` is what was asked; ``client.apply(proposal)`` does it."""

    request: dict[str, Any]

    @classmethod
    def of(cls, plan: Plan, request: dict[str, Any]) -> Proposal:
        """The plan that answers ``request``."""
        return cls(**{name: getattr(plan, name) for name in plan.__struct_fields__}, request=request)


def plan_body(verb: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The request for a plan, from the arguments of ``plan`` or ``apply``."""
    selection = {name: value for name, value in fields.items() if name in SELECTION}
    if not selection.keys() & {"ids", "q", "project", "deletion_id"}:
        raise Invalid(f"say what to {verb}: ids=, q=, project= or deletion_id=", path="selection")
    rest = {name: value for name, value in fields.items() if name not in SELECTION}
    return {"verb": verb, "selection": selection, **rest}


def apply_body(what: Proposal | str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The request that applies a plan, or a verb to a selection. Invalid when it is both."""
    if isinstance(what, str):
        return plan_body(what, fields)
    both = sorted(fields.keys() - {"reason", "ticket", "background", "rate", "archive"})
    if both:
        raise Invalid(f"a plan says already what to do; leave out {', '.join(both)}", path=both[0])
    return {**what.request, "plan_hash": what.hash, **fields}

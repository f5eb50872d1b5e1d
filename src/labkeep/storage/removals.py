"""Records of removals in SQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Select, select, update

from labkeep.core.access import Actor
from labkeep.core.entities import Item, Json
from labkeep.core.errors import NotFound
from labkeep.core.ids import is_id
from labkeep.core.removals import Removal
from labkeep.storage import tables as t
from labkeep.storage.data_keys import Box
from labkeep.storage.masks import HIDING
from labkeep.storage.transaction import Tx

c = t.removals.c

COLUMNS = [c[name] for name in Removal.__struct_fields__]

BLANK: dict[str, Any] = {"ref": "", "stream": "", "digest": "", "body": {}}
"""What a purged removal keeps of the columns that may hold content: nothing."""


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """What a removal holds, beside its record: where it is, and what puts it back."""

    first_row: int | None = None
    end_row: int | None = None
    xact: int | None = None
    digest: str = ""
    body: Json = {}


_HELD = [c[name] for name in Held.__struct_fields__]


def query(actor: Actor) -> Select[Any]:
    """SELECT of the removals of the workspace."""
    return select(*COLUMNS).where(c.organization_id == actor.organization_id, c.workspace_id == actor.workspace_id)


def get(tx: Tx, actor: Actor, id: str, *, lock: bool = False) -> Removal:
    """One removal of the workspace. NotFound otherwise."""
    mine = query(actor).where(c.id == id)
    found = tx.one(mine.with_for_update() if lock else mine) if is_id(id) else None
    if found is None:
        raise NotFound(f"removal {id[:80]} not found")
    return make(found)


def make(row: Any) -> Removal:
    """A removal from its columns."""
    return Removal(**row)


def held(tx: Tx, removal: Removal) -> Held:
    """What a removal holds."""
    found = tx.one(select(*_HELD).where(*_same(removal)))
    assert found is not None, removal.id
    body = Box(tx, removal.organization_id, removal.item_id, None).open_json(found["body"], f"removal {removal.id}")
    return Held(**{**found, "body": body})


def insert(tx: Tx, owner: Item, removal: Removal, held: Held) -> None:
    """Store a new removal. What puts it back is content, and encrypted where the project wants that."""
    row = {name: getattr(removal, name) for name in Removal.__struct_fields__}
    box = Box(tx, owner.organization_id, owner.id, owner.project_id)
    body = box.close_json(held.body, f"removal {removal.id}")
    tx.insert(t.removals, [{**row, "part": str(removal.part), **msgspec.structs.asdict(held), "body": body}])


def change(tx: Tx, removal: Removal, **values: Any) -> Removal:
    """Change columns of a removal; answers it as it is now."""
    tx.execute(update(t.removals).where(*_same(removal)).values(**values))
    known = {name: value for name, value in values.items() if name in Removal.__struct_fields__}
    return msgspec.structs.replace(removal, **known)


def _same(removal: Removal) -> tuple[Any, ...]:
    return c.organization_id == removal.organization_id, c.id == removal.id


def spans(tx: Tx, item: Item, stream: str, part: str, ref: str) -> list[tuple[str, int, int]]:
    """(id, first row, end) of what hides ``ref`` of a stream, in order of rows."""
    same = (c.organization_id == item.organization_id, c.item_id == item.id, c.stream == stream)
    hiding = (c.part == part, c.ref == ref, c.state.in_(HIDING))
    found = tx.execute(select(c.id, c.first_row, c.end_row).where(*same, *hiding).order_by(c.first_row, c.end_row))
    return [(id, first, end) for id, first, end in found]


def subtract(first: int, end: int, others: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The ranges of ``[first, end)`` that no other one covers. ``others`` are in order."""
    left: list[tuple[int, int]] = []
    for start, stop in others:
        if first < min(start, end):
            left.append((first, min(start, end)))
        first = max(first, stop)
    return [*left, (first, end)] if first < end else left


def due(tx: Tx, limit: int) -> list[Removal]:
    """Removals whose grace period is over, in every organization."""
    wanted = select(*COLUMNS).where(c.state == "trashed", c.restorable_until <= tx.now)
    found = tx.all(wanted.order_by(c.restorable_until).limit(limit).with_for_update(skip_locked=True))
    return [make(row) for row in found]

"""Rows of runs and documents: eval rows, spans, results and dataset items, upserted and merged by id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from labkeep.core.access import Actor, require
from labkeep.core.commands import Get, Page, ReadRows, RowIn, RowPage, RowStats, WriteRows, WriteRowSets, Written
from labkeep.core.commands_transfer import ReadStates, RowState
from labkeep.core.entities import Item, Json
from labkeep.core.errors import Invalid
from labkeep.core.json_values import is_unicode, shown
from labkeep.core.lifecycle import Kind
from labkeep.core.merge import merge, remove_values
from labkeep.operations import removals
from labkeep.operations.projects import states_for
from labkeep.storage import index, records, subjects
from labkeep.storage import rows as stored
from labkeep.storage.pages import decode_cursor, encode_cursor
from labkeep.storage.rows import POSITION_SHIFT, Revision, Sums
from labkeep.storage.transaction import Tx

OWNERS = (Kind.run, Kind.document)
"""What has rows."""

Position = Annotated[int, Meta(ge=0, le=2**63 - 1)]
"""What a cursor holds."""

EMPTY = b"{}"
"""The data of a tombstone."""

ID_BYTES = 1024
"""Longest id of a row, in UTF-8: it is part of database keys."""


def write(tx: Tx, actor: Actor, command: WriteRows) -> Written:
    """Write rows of one run or document. What is already as asked stays, so a write may be sent again.

    A row that is deleted is a removal: recorded, restorable, and refused where something protects the owner.
    """
    return _write(tx, actor, _writable(tx, actor, command.id), command.rows)


def write_sets(tx: Tx, actor: Actor, command: WriteRowSets) -> list[Written]:
    """Write rows of several runs and documents: all of them or none. Answers in the order given."""
    # Locked in one order, so that two such writes never wait for each other.
    owners = {id: _writable(tx, actor, id) for id in sorted({part.id for part in command.sets})}
    return [_write(tx, actor, owners[part.id], part.rows) for part in command.sets]


def read(tx: Tx, actor: Actor, command: ReadRows) -> RowPage:
    """One page of rows, newest trace first and never a part of a trace; very large rows make a page end early."""
    owner = _readable(tx, actor, command.id, command.include)
    before = None if command.cursor is None else int(decode_cursor(command.cursor, tuple[Position])[0])
    xact = stored.last_xact(tx, owner)
    as_of = None
    if command.as_of is not None and command.as_of < xact:
        as_of = xact = max(0, command.as_of)
    if command.ids:
        rows, more = stored.page_of_ids(tx, owner, command.ids, limit=command.limit, before=before, as_of=as_of)
    else:
        rows, more = stored.page(tx, owner, limit=command.limit, before=before, as_of=as_of)
    return RowPage(rows, encode_cursor(rows[-1].position) if more else None, xact)


def stats(tx: Tx, actor: Actor, command: Get) -> RowStats:
    """How many rows there are, and the mean of each of their scores."""
    owner = _readable(tx, actor, command.id, command.include)
    number, means = stored.summary(tx, owner.organization_id, [owner.id])
    return RowStats(number, stored.last_xact(tx, owner), means)


# --- owners -----------------------------------------------------------------------------------------------------------


def _readable(tx: Tx, actor: Actor, id: str, include: str) -> Item:
    owner = records.get(tx, Item, actor, id, states=states_for(include))
    return _allowed(actor, owner, "read")


def _writable(tx: Tx, actor: Actor, id: str) -> Item:
    return _allowed(actor, records.get_writable(tx, Item, actor, id), "write")


def _allowed(actor: Actor, owner: Item, verb: str) -> Item:
    require(actor, f"{owner.kind}.{verb}")
    if owner.kind not in OWNERS:
        raise Invalid(f"{owner.kind} {owner.name} has no rows: only runs and documents do", path="id")
    return owner


def states(tx: Tx, actor: Actor, command: ReadStates) -> Page[RowState]:
    """Every state that the rows ever had: what reading as of a transaction goes by."""
    owner = _allowed(actor, records.get(tx, Item, actor, command.id, states=states_for(command.include)), "read")
    after = None if command.cursor is None else decode_cursor(command.cursor, tuple[str, int])
    found = [_state(*one) for one in stored.states(tx, owner, after, command.limit + 1)]
    if len(found) <= command.limit:
        return Page(found)
    last = found[command.limit - 1]
    return Page(found[: command.limit], encode_cursor(last.id, last.xact))


def _state(revision: Revision, xact: int, ended: int | None) -> RowState:
    return RowState(
        id=revision.id,
        root_id=revision.root_id,
        xact=xact,
        next_xact=ended,
        position=revision.position,
        deleted=revision.deleted,
        created_at=revision.created_at,
        data=revision.data,
    )


# --- writing ----------------------------------------------------------------------------------------------------------


def _write(tx: Tx, actor: Actor, owner: Item, rows: Sequence[RowIn]) -> Written:
    ids = [tx.new_id() if row.id is None else _checked(row.id) for row in rows]
    before = stored.current(tx, owner, set(ids))
    after = dict(before)
    for id, row in zip(ids, rows, strict=True):
        revised = _revise(after.get(id), id, row, tx.now)
        if revised is not None:
            after[id] = revised
    changed = {id: revision for id, revision in after.items() if _differ(before.get(id), revision)}
    newest = stored.last_xact(tx, owner)
    if not changed:
        return Written(ids, newest)
    # A write takes a transaction id for each 2^15 rows, so that its traces lie below those of the next write.
    first = stored.next_xact(tx, newest)
    xact = first + (len(rows) - 1 >> POSITION_SHIFT)
    revisions = _placed(tx, owner, before, changed, ids, first)
    buried = sorted(one.id for one in revisions if one.deleted and one.id in before and not before[one.id].deleted)
    if buried:
        removals.protect(tx, actor, owner, asked=False)
        removals.drop_rows(tx, actor, owner, buried, xact)
    added = stored.store(tx, owner, xact, revisions, changed.keys() & before.keys())
    stored.advance(tx, owner, xact, added)
    subjects.note(tx, owner, subjects.declared(tx, owner), revisions)
    _sum_up(tx, owner, before, revisions)
    return Written(ids, xact)


def _checked(id: str) -> str:
    if not is_unicode(id) or "\x00" in id or not 0 < len(id.encode()) <= ID_BYTES:
        raise Invalid(f"a row's id has 1 to {ID_BYTES} bytes of text without NUL; got {shown(id)[:80]!r}", path="id")
    return id


def _revise(before: Revision | None, id: str, row: RowIn, now: datetime) -> Revision | None:
    """The state of a row after one command; its position is not decided here. None when there is no row."""
    if before is None:
        before = Revision(id, id if row.root_id is None else _checked(row.root_id), 0, now, True, EMPTY)
        if row.delete:
            return None
    if row.delete:
        return replace(before, deleted=True, json=EMPTY)
    root_id, data = before.root_id, row.data
    if row.merge and not before.deleted:
        data = merge(before.data, row.data, keep=row.keep, union=row.union, paths=row.paths, remove_none=False)
    else:
        root_id = root_id if row.root_id is None else _checked(row.root_id)
        if row.keep:
            data = data | {key: value for key, value in before.data.items() if key in row.keep}
    for path, values in row.remove:
        data = remove_values(data, path, values)
    return replace(before, root_id=root_id, deleted=False, json=_encode(id, data))


def _encode(id: str, data: Json) -> bytes:
    try:
        return msgspec.json.encode(data)
    except (UnicodeEncodeError, RecursionError) as error:
        raise Invalid(f"row {id[:80]!r} cannot be stored as JSON: {error}", path="data") from error


def _differ(before: Revision | None, after: Revision) -> bool:
    return before is None or (before.json, before.root_id, before.deleted) != (after.json, after.root_id, after.deleted)


def _placed(
    tx: Tx,
    owner: Item,
    before: Mapping[str, Revision],
    changed: Mapping[str, Revision],
    ids: Sequence[str],
    first: int,
) -> list[Revision]:
    """The revisions at their traces' positions. A trace that is new goes above all others, in the order of the write."""
    known = {revision.root_id: revision.position for revision in before.values()}
    known.update(stored.positions(tx, owner, {revision.root_id for revision in changed.values()} - known.keys()))
    for place, id in enumerate(ids):
        if id in changed:
            known.setdefault(changed[id].root_id, (first << POSITION_SHIFT) + place)
    return [replace(revision, position=known[revision.root_id]) for revision in changed.values()]


def put_back(tx: Tx, owner: Item, states: Sequence[RowState]) -> None:
    """Store states of rows as they once were, in an owner that has none of them. AlreadyExists when it has."""
    revisions = [
        (
            Revision(
                _checked(one.id),
                _checked(one.root_id),
                one.position,
                one.created_at,
                one.deleted,
                _encode(one.id, one.data),
            ),
            one.xact,
            one.next_xact,
        )
        for one in states
    ]
    added = stored.put_back(tx, owner, revisions)
    newest = max((max(xact, ended or 0) for _, xact, ended in revisions), default=0)
    stored.advance(tx, owner, max(stored.last_xact(tx, owner), newest), added)
    _sum_up(tx, owner, {}, [revision for revision, _, ended in revisions if ended is None])


def _sum_up(tx: Tx, owner: Item, before: Mapping[str, Revision], after: Sequence[Revision]) -> None:
    """Keep the number of rows and the means of their scores, and what runs are found by."""
    sums = Sums()
    for revision in after:
        if revision.id in before:
            sums.add(before[revision.id], sign=-1)
        sums.add(revision)
    means = {f"scores.{name}": mean for name, mean in sums.store(tx, owner).items()}
    if owner.kind == Kind.run:
        index.put(tx, owner, {path: mean for path, mean in means.items() if mean is not None})
        index.drop(tx, owner, [path for path, mean in means.items() if mean is None])

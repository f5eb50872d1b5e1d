"""What removing, restoring and planning do to each part: rows, a metric, a file, console output."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import delete, select

from labkeep.core.columns import STEP, TIMESTAMP
from labkeep.core.entities import Item, Row, Run
from labkeep.core.errors import AlreadyExists, Invalid, NotFound
from labkeep.core.filters import evaluate, leaves
from labkeep.core.lifecycle import Kind
from labkeep.core.paths import leaves_of
from labkeep.core.query import parse
from labkeep.core.removals import (
    MOST_ROWS,
    Part,
    PlanRemoval,
    Removal,
    defined_places,
    put_back,
    renamed,
    taken_out,
)
from labkeep.operations import files
from labkeep.storage import histories, index, metrics, records, row_removals
from labkeep.storage import removals as store
from labkeep.storage import rows as stored
from labkeep.storage import tables as t
from labkeep.storage.histories import Owner
from labkeep.storage.metrics import Place
from labkeep.storage.removals import Held
from labkeep.storage.rows import Revision, Sums
from labkeep.storage.transaction import Tx

METRICS = "history"
"""The stream that metrics are in when nobody says."""

CONSOLE = "console"

POINT_BYTES = 8
"""What a point counts as before anybody has looked: a double."""

QUERIED = ("id", "created_at", "tag", "metadata", "scores")
"""What a query may ask of a row: these fields, and what lies below the last two."""


class Found(NamedTuple):
    """What a removal would take: how it is recorded, and what must be the same when it happens."""

    ref: str
    number: int
    bytes: int
    held: Held
    ids: tuple[str, ...] = ()
    stream: str = ""
    seen: tuple[Any, ...] = ()


def find(tx: Tx, owner: Item, command: PlanRemoval) -> Found:
    """What is there to remove. NotFound when nothing is; Invalid for what makes no sense for the part."""
    _check_fields(command)
    return _FIND[command.part](tx, owner, command)


_MEANT: dict[Part, frozenset[str]] = {
    Part.row: frozenset({"ids", "where", "q"}),
    Part.metric: frozenset({"ref", "stream"}),
    Part.file: frozenset({"ref"}),
    Part.console: frozenset({"before", "upto"}),
}


def _check_fields(command: PlanRemoval) -> None:
    given = [name for name in ("ids", "where", "q", "ref", "stream", "before", "upto") if getattr(command, name)]
    for name in given:
        if name not in _MEANT[command.part]:
            raise Invalid(f"{name} means nothing for a {command.part}", path=name)
    if not given and command.part != Part.console:
        what = {"row": "ids, where or q", "metric": "the key as ref", "file": "the path as ref"}[command.part]
        raise Invalid(f"say which {command.part} to remove: {what}", path="ref" if command.part != Part.row else "ids")


# --- rows -------------------------------------------------------------------------------------------------------------


def _find_rows(tx: Tx, owner: Item, command: PlanRemoval) -> Found:
    ids = _named(tx, owner, command) if command.ids else _meeting(tx, owner, command)
    if not ids:
        raise NotFound(f"{owner.kind} {owner.name} has no such row", id=owner.id)
    if len(ids) > MOST_ROWS:
        raise Invalid(f"{len(ids)} rows are more than one removal may take ({MOST_ROWS}): narrow it", path="q")
    ref = ids[0] if len(ids) == 1 else ""
    size = row_removals.size_of(tx, owner, ids)
    return Found(ref, len(ids), size, Held(), tuple(ids), seen=(*ids, stored.last_xact(tx, owner)))


def _named(tx: Tx, owner: Item, command: PlanRemoval) -> list[str]:
    if command.where or command.q:
        raise Invalid("name rows by ids, or by where and q; not by both", path="ids")
    found = stored.current(tx, owner, set(command.ids))
    missing = [id for id in command.ids if id not in found or found[id].deleted]
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise NotFound(f"{owner.kind} {owner.name} has no row {missing[0][:80]!r}{more}", ids=missing[:100])
    return sorted(found)


def _meeting(tx: Tx, owner: Item, command: PlanRemoval) -> list[str]:
    """Rows that meet a filter; every row is read for it."""
    filter = parse(command.q, tx.now).filter if command.q else None
    for field in (leaf.field for leaf in leaves(filter)):
        if field not in QUERIED[:3] and field.partition(".")[0] not in QUERIED[3:]:
            raise Invalid(f"a row has no field {field[:80]}; ask for {', '.join(QUERIED)}, or use where", path="q")

    def meets(row: Row) -> bool:
        held = dict(leaves_of(row.data))
        if any(path not in held or not _equal(held[path], value) for path, value in command.where.items()):
            return False
        return evaluate(filter, lambda field: _value(row, held, field))

    return sorted(row.id for row in stored.iter_current(tx, owner) if meets(row))


def _equal(value: Any, wanted: Any) -> bool:
    return isinstance(value, bool) is isinstance(wanted, bool) and bool(value == wanted)


def _value(row: Row, held: dict[str, Any], field: str) -> Any:
    if field in ("id", "created_at"):
        return getattr(row, field)
    if field == "tag":
        tags = row.data.get("tags")
        return [tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else None
    return held.get(field)


def bury(tx: Tx, owner: Item, ids: Sequence[str], *, versions: bool) -> Held:
    """Write tombstones over rows: one transaction id for all of them."""
    before = stored.current(tx, owner, ids)
    xact = stored.next_xact(tx, stored.last_xact(tx, owner))
    tombs = [msgspec.structs.replace(before[id], deleted=True, json=b"{}") for id in ids]
    stored.advance(tx, owner, xact, stored.store(tx, owner, xact, tombs, ids))
    if not versions:
        row_removals.hide_versions(tx, owner, xact, ids)
    recount(tx, owner, gone=before.values())
    return Held(xact=xact)


def recount(tx: Tx, owner: Item, *, gone: Any = (), back: Any = ()) -> None:
    """Bring the number of rows, the means of their scores and the index up to date."""
    sums = Sums()
    for revision in gone:
        sums.add(revision, sign=-1)
    for revision in back:
        sums.add(revision)
    means = {f"scores.{name}": mean for name, mean in sums.store(tx, owner).items()}
    if owner.kind == Kind.run:
        index.put(tx, owner, {path: mean for path, mean in means.items() if mean is not None})
        index.drop(tx, owner, [path for path, mean in means.items() if mean is None])


def _unbury(tx: Tx, owner: Item, held: Held) -> None:
    assert held.xact is not None, owner.id
    while ids := row_removals.members(tx, owner, held.xact):
        size, back = row_removals.lift(tx, owner, held.xact, ids)
        records.add_bytes(tx, owner.id, owner.organization_id, -size)
        revisions: list[Revision] = list(back.values())
        recount(tx, owner, back=revisions)


# --- a metric ---------------------------------------------------------------------------------------------------------


def _find_metric(tx: Tx, owner: Item, command: PlanRemoval) -> Found:
    key, stream = command.ref, command.stream or METRICS
    if key in (STEP, TIMESTAMP) or stream == CONSOLE:
        raise Invalid(f"{key[:80]!r} of {stream[:64]!r} is no metric; remove the console, or the whole run", path="ref")
    place = _place(owner, stream)
    known = metrics.load(tx, place, [key]).get(key)
    in_summary = stream == METRICS and isinstance(owner, Run) and bool(taken_out(owner.summary, key)[1])
    if known is None and not in_summary:
        raise NotFound(f"run {owner.name} has no metric {key[:80]!r} in the stream {stream[:64]!r}", id=owner.id)
    end = histories.standing(tx, place).rows
    hidden = store.spans(tx, owner, stream, Part.metric, key)
    shown = store.subtract(0, end, [(first, stop) for _, first, stop in hidden])
    count = 0 if known is None else known.total.count
    held = Held(first_row=shown[0][0] if shown else end, end_row=end)
    return Found(key, count, count * POINT_BYTES, held, stream=stream, seen=(end, hidden))


def _place(owner: Item, stream: str) -> Place:
    return Place(owner.organization_id, owner.id, stream)


def _hide_metric(tx: Tx, owner: Item, found: Found) -> Held:
    place = _place(owner, found.stream)
    body: dict[str, Any] = {"series": metrics.take(tx, owner, place, found.ref)}
    if found.stream == METRICS and isinstance(owner, Run):
        summary, taken = taken_out(owner.summary, found.ref)
        defined = defined_places(owner.extra, found.ref)
        body |= {"summary": taken, "defined": defined}
        _save(tx, owner, summary=summary, extra=renamed(owner.extra, defined, ""))
    return msgspec.structs.replace(found.held, body=body)


def _save(tx: Tx, run: Run, **fields: Any) -> None:
    index.change(tx, run, records.save(tx, run, msgspec.structs.replace(run, **fields)))


def _show_metric(tx: Tx, owner: Item, removal: Removal, held: Held) -> None:
    assert isinstance(owner, Run), removal.id
    place, key = _place(owner, removal.stream), removal.ref
    if (taken := held.body.get("series")) is not None:
        mine = Owner(owner.organization_id, owner.workspace_id, owner.id, owner.project_id, owner.status)
        if histories.sealed_end(tx, place):
            metrics.give_back(tx, mine, place, key, taken)
            histories.request_settling(tx, mine, place)
        else:
            metrics.rebuild(tx, mine, place, [key], histories.summarise_chunks(tx, place, [key]))
    summary = put_back(owner.summary, held.body.get("summary", []))
    _save(tx, owner, summary=summary, extra=renamed(owner.extra, held.body.get("defined", []), key))


# --- a file -----------------------------------------------------------------------------------------------------------

_f = t.files.c
_FILE = tuple(_f[name] for name in ("size", "media_type", "created_at", "digest", "content"))


def _at(owner: Item, path: str) -> tuple[Any, ...]:
    return _f.organization_id == owner.organization_id, _f.owner_id == owner.id, _f.path == path


def _find_file(tx: Tx, owner: Item, command: PlanRemoval) -> Found:
    path = files.clean_path(command.ref)
    row = tx.one(select(*_FILE).where(*_at(owner, path)))
    if row is None:
        raise NotFound(f"{owner.kind} {owner.name} has no file {command.ref[:80]!r}", id=owner.id)
    kept = ("size", "media_type", "created_at", "content")
    body: dict[str, Any] = msgspec.to_builtins({name: row[name] for name in kept})
    return Found(path, 1, row["size"], Held(digest=row["digest"], body=body), seen=(row["digest"],))


def _detach(tx: Tx, owner: Item, found: Found) -> Held:
    # The reference to the blob goes over to the removal, and its bytes still count as the object's.
    tx.execute(delete(t.files).where(*_at(owner, found.ref)))
    return found.held


def _attach(tx: Tx, owner: Item, removal: Removal, held: Held, path: str | None) -> None:
    wanted = files.clean_path(path) if path is not None else removal.ref
    if tx.one(select(_f.path).where(*_at(owner, wanted))) is not None:
        free = f"restored-{removal.id[-4:]}/{removal.ref}"
        raise AlreadyExists(
            f"{owner.kind} {owner.name} has a file {wanted[:80]!r} again: restore under another path, "
            f"for example {free[:120]!r} (pass path)",
            taken=wanted,
            suggestion=free,
        )
    row = {"organization_id": owner.organization_id, "owner_id": owner.id, "path": wanted, "digest": held.digest}
    made = datetime.fromisoformat(held.body["created_at"])
    tx.insert(t.files, [row | held.body | {"created_at": made}])


# --- console output ---------------------------------------------------------------------------------------------------


def _find_console(tx: Tx, owner: Item, command: PlanRemoval) -> Found:
    if command.before is not None and command.upto is None:
        raise Invalid("this server could not tell which lines were printed before that moment", path="before")
    rows = histories.standing(tx, _place(owner, CONSOLE)).rows
    end = rows if command.upto is None else min(rows, command.upto)
    hidden = store.spans(tx, owner, CONSOLE, Part.console, "")
    others = [(first, stop) for _, first, stop in hidden]
    there = histories.stretches(tx, _place(owner, CONSOLE))
    shown = [part for first, stop in there for part in store.subtract(first, min(stop, end), others)]
    if not shown:
        raise NotFound(f"run {owner.name} has no such console output", id=owner.id)
    count = sum(stop - first for first, stop in shown)
    held = Held(first_row=shown[0][0], end_row=end)
    return Found("", count, count * POINT_BYTES, held, stream=CONSOLE, seen=(end, hidden))


# --- all of them ------------------------------------------------------------------------------------------------------

_FIND: dict[Part, Callable[[Tx, Item, PlanRemoval], Found]] = {
    Part.row: _find_rows,
    Part.metric: _find_metric,
    Part.file: _find_file,
    Part.console: _find_console,
}


def take(tx: Tx, owner: Item, part: Part, found: Found, *, versions: bool) -> Held:
    """Take away what was found; answers what puts it back."""
    if part == Part.row:
        return bury(tx, owner, found.ids, versions=versions)
    if part == Part.metric:
        return _hide_metric(tx, owner, found)
    # The record of the removal is itself what hides console lines.
    return _detach(tx, owner, found) if part == Part.file else found.held


def give_back(tx: Tx, owner: Item, removal: Removal, held: Held, path: str | None) -> None:
    """Put a part back, once its record says that it is restored."""
    if removal.part == Part.row:
        _unbury(tx, owner, held)
    elif removal.part == Part.metric:
        _show_metric(tx, owner, removal, held)
    elif removal.part == Part.file:
        _attach(tx, owner, removal, held, path)

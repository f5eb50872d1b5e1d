"""What of one object speaks of a person, and putting a mark in its place, in SQL: every state, every version."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import select, tuple_, update

from labkeep.core.access import Actor
from labkeep.core.entities import KIND_ENTITY, Item, Json
from labkeep.core.erasures import Matcher
from labkeep.core.ids import is_id
from labkeep.core.lifecycle import State
from labkeep.storage import index, records, row_removals, rows, subjects
from labkeep.storage import removals as removal_records
from labkeep.storage import tables as t
from labkeep.storage.data_keys import Box
from labkeep.storage.rows import Sums
from labkeep.storage.transaction import Tx

READABLE = (State.active, State.archived, State.trashed)

OWN = (
    "name",
    "handle",
    "description",
    "tags",
    "metadata",
    "extra",
    "config",
    "summary",
    "notes",
    "group",
    "job_type",
    "type",
    "aliases",
)
"""Fields of objects that hold what people write, those that a kind has."""

STATES = 500
"""States of rows that are read at once."""


def next_items(tx: Tx, actor: Actor, after: str, limit: int) -> list[str]:
    """Ids of objects of the workspace that are not purged, in order."""
    c = t.items.c
    mine = (c.organization_id == actor.organization_id, c.workspace_id == actor.workspace_id, c.state.in_(READABLE))
    query = select(c.id).where(*mine, *([c.id > after] if is_id(after) else [])).order_by(c.id).limit(limit)
    return [row[0] for row in tx.execute(query)]


def load(tx: Tx, actor: Actor, id: str, *, lock: bool = False) -> Item:
    """An object with everything that its kind has. NotFound, Gone."""
    item = records.get(tx, Item, actor, id, states=READABLE, lock=lock)
    return records.get(tx, KIND_ENTITY[item.kind], actor, id, states=READABLE)


# --- its own fields ---------------------------------------------------------------------------------------------------


def count_own(item: Item, matcher: Matcher) -> int:
    """How often the fields of an object itself speak of the person."""
    return sum(matcher.count(getattr(item, name)) for name in OWN if hasattr(item, name))


def redact_own(tx: Tx, item: Item, matcher: Matcher) -> int:
    """Put the mark into the fields of an object itself. A handle, which must be one of its own, gets another text."""
    found = count_own(item, matcher)
    if not found:
        return 0
    changes = {name: matcher.redact(getattr(item, name)) for name in OWN if hasattr(item, name)}
    if matcher.count(item.handle):
        changes["handle"] = f"erased-{item.id[-12:]}"
    index.change(tx, item, records.save(tx, item, msgspec.structs.replace(item, **changes)))
    return found


# --- rows -------------------------------------------------------------------------------------------------------------


class Matched(NamedTuple):
    """Rows that speak of the person in one of their states, how many states that are, and where to go on."""

    ids: tuple[str, ...]
    states: int
    after: tuple[str, int] | None


def match_rows(tx: Tx, owner: Item, matcher: Matcher, after: tuple[str, int] | None) -> Matched:
    """Look at the next states of an owner's rows, in order of ids: the current, the earlier and the removed ones."""
    c = t.rows.c
    query = select(c.id, c.xact, c.root_id, c.deleted, c.data)
    query = query.where(c.organization_id == owner.organization_id, c.owner_id == owner.id)
    if after is not None:
        query = query.where(tuple_(c.id, c.xact) > after)
    found = tx.execute(query.order_by(c.id, c.xact).limit(STATES)).all()
    box, ids, states = rows.box_of(tx, owner), dict[str, None](), 0
    for id, _, root_id, deleted, data in found:
        text = "" if deleted else rows.json_of(box, id, data)
        if matcher.count(id) or matcher.count(root_id) or (text and matcher.count(msgspec.json.decode(text))):
            ids[id] = None
            states += 1
    return Matched(tuple(ids), states, (found[-1][0], found[-1][1]) if len(found) == STATES else None)


def rewrite_rows(tx: Tx, owner: Item, ids: Sequence[str], matcher: Matcher, *, delete: bool) -> int:
    """Drop every state of these rows; unless they are deleted, what is current comes back once, with the mark in it."""
    before = rows.current(tx, owner, ids)
    alive = {id: revision for id, revision in before.items() if not revision.deleted}
    dropped = row_removals.drop_all(tx, owner, ids)
    xact = rows.next_xact(tx, rows.last_xact(tx, owner))
    made = [] if delete else [_redacted(tx, revision, matcher) for revision in alive.values()]
    added = rows.store(tx, owner, xact, made, ())
    rows.advance(tx, owner, xact, added - dropped)
    sums = Sums()
    for revision in alive.values():
        sums.add(revision, sign=-1)
    for revision in made:
        sums.add(revision)
    means = {f"scores.{name}": mean for name, mean in sums.store(tx, owner).items()}
    if owner.kind == "run":
        index.put(tx, owner, {path: mean for path, mean in means.items() if mean is not None})
        index.drop(tx, owner, [path for path, mean in means.items() if mean is None])
    subjects.forget(tx, owner, ids)
    subjects.note(tx, owner, subjects.declared(tx, owner), made)
    return len(before)


def _redacted(tx: Tx, revision: rows.Revision, matcher: Matcher) -> rows.Revision:
    id = f"erased-{tx.new_id()}" if matcher.count(revision.id) else revision.id
    root = id if revision.root_id == revision.id else matcher.redact(revision.root_id)
    data = msgspec.json.encode(matcher.redact(revision.data))
    return msgspec.structs.replace(revision, id=id, root_id=root, json=data)


# --- versions of documents --------------------------------------------------------------------------------------------


class FoundVersion(NamedTuple):
    """A version whose body or message speaks of the person."""

    number: int
    body: Json
    message: str
    times: int


def match_versions(tx: Tx, item: Item, matcher: Matcher, place: Any) -> list[FoundVersion]:
    """Versions that speak of the person. ``place`` names where a body is closed, by its number."""
    v = t.versions.c
    query = select(v.number, v.body, v.message).where(
        v.organization_id == item.organization_id, v.document_id == item.id
    )
    found = []
    for number, stored, message in tx.execute(query.order_by(v.number)):
        body = Box(tx, item.organization_id, item.id, None).open_json(stored, place(number))
        count = matcher.count(body) + matcher.count(message)
        if count:
            found.append(FoundVersion(number, matcher.redact(body), str(matcher.redact(message)), count))
    return found


def store_version(tx: Tx, item: Item, version: FoundVersion, digest: str, place: str) -> None:
    """Put a redacted version in the place of the old."""
    v = t.versions.c
    body = Box(tx, item.organization_id, item.id, item.project_id).close_json(version.body, place)
    same = (v.organization_id == item.organization_id, v.document_id == item.id, v.number == version.number)
    tx.execute(update(t.versions).where(*same).values(body=body, digest=digest, message=version.message))


# --- summaries of streams, and records of removals --------------------------------------------------------------------


def redact_series(tx: Tx, item: Item, matcher: Matcher, *, looking: bool) -> int:
    """Last values of metrics that are texts."""
    s = t.series.c
    mine = (s.organization_id == item.organization_id, s.run_id == item.id)
    total = 0
    for stream, key, summary in tx.execute(select(s.stream, s.key, s.summary).where(*mine)).all():
        count = matcher.count(_texts(summary))
        total += count
        if count and not looking:
            marked = {name: matcher.redact(value) if _is_text(value) else value for name, value in summary.items()}
            tx.execute(update(t.series).where(*mine, s.stream == stream, s.key == key).values(summary=marked))
    return total


def _texts(summary: Json) -> list[Any]:
    return [value for value in summary.values() if _is_text(value)]


def _is_text(value: Any) -> bool:
    """Numbers of a summary are computed, and not what somebody is called."""
    return isinstance(value, str | dict | list)


def redact_removals(tx: Tx, item: Item, matcher: Matcher, *, looking: bool) -> int:
    """What records of removals still quote of what they hold."""
    c = t.removals.c
    mine = (c.organization_id == item.organization_id, c.item_id == item.id)
    total = 0
    for row in tx.all(select(*removal_records.COLUMNS).where(*mine)):
        removal = removal_records.make(row)
        held = removal_records.held(tx, removal)
        count = matcher.count(removal.ref) + matcher.count(held.body)
        total += count
        if count and not looking:
            box = Box(tx, item.organization_id, item.id, item.project_id)
            body = box.close_json(matcher.redact(held.body), f"removal {removal.id}")
            removal_records.change(tx, removal, ref=matcher.redact(removal.ref), body=body)
    return total


# --- files ------------------------------------------------------------------------------------------------------------


class TextFile(NamedTuple):
    """A file that may be text. ``removal_id`` when it is in the trash on its own."""

    path: str
    blob: str
    size: int
    media_type: str
    removal_id: str = ""


def files_of(tx: Tx, item: Item) -> list[TextFile]:
    """Files of an object, those that were removed and can still be restored included."""
    f, r = t.files.c, t.removals.c
    mine = (f.organization_id == item.organization_id, f.owner_id == item.id)
    found = [TextFile(*row) for row in tx.execute(select(f.path, f.digest, f.size, f.media_type).where(*mine))]
    removed = (r.organization_id == item.organization_id, r.item_id == item.id, r.digest != "")
    for row in tx.all(select(*removal_records.COLUMNS).where(*removed)):
        removal = removal_records.make(row)
        held = removal_records.held(tx, removal)
        media_type = str(held.body.get("media_type", ""))
        found.append(TextFile(removal.ref, held.digest, removal.bytes, media_type, removal.id))
    return found

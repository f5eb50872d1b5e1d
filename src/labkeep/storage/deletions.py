"""Deletion records in SQL: members, bindings, and the statements that move whole deletions at once."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import ColumnElement, Select, and_, delete, func, literal, or_, select, tuple_, update
from sqlalchemy import insert as insert_into

from labkeep.core.access import Actor
from labkeep.core.commands import Selection
from labkeep.core.deletion import Candidate
from labkeep.core.entities import Deletion, DeletionMember, Json
from labkeep.core.errors import AlreadyExists, Illegal, Invalid, NotFound
from labkeep.core.ids import is_id
from labkeep.core.lifecycle import BUSY, LIVE, Kind, State, Status
from labkeep.storage import column_types as types
from labkeep.storage import jobs
from labkeep.storage import tables as t
from labkeep.storage.packed import packed
from labkeep.storage.transaction import Tx

COLUMNS = [t.deletions.c[name] for name in Deletion.__struct_fields__]
MEMBER_COLUMNS = [t.deletion_members.c[name] for name in DeletionMember.__struct_fields__]

BATCH = 500


def parts(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """``ids`` in pieces that fit into one statement."""
    for start in range(0, len(ids), BATCH):
        yield ids[start : start + BATCH]


def get(tx: Tx, actor: Actor, id: str, *, lock: bool = False) -> Deletion:
    """One deletion of the workspace. NotFound otherwise."""
    c = t.deletions.c
    query = select(*COLUMNS).where(
        c.organization_id == actor.organization_id, c.workspace_id == actor.workspace_id, c.id == id
    )
    found = tx.one(query.with_for_update() if lock else query) if is_id(id) else None
    if found is None:
        raise NotFound(f"deletion {id[:80]} not found")
    return Deletion(**found)


def insert(tx: Tx, deletion: Deletion, selection: Selection) -> None:
    """Store a new deletion. Of the selection only what names objects is kept, not the text of a query."""
    kept = {"ids": len(selection.ids), "kind": selection.kind, "query": bool(selection.q)}
    items = sum(deletion.counts.values())
    tx.insert(t.deletions, [{**msgspec.structs.asdict(deletion), "selection": kept, "items": items}])


def change(tx: Tx, deletion: Deletion, **values: Any) -> None:
    """Change columns of one deletion."""
    c = t.deletions.c
    tx.execute(
        update(t.deletions).where(c.organization_id == deletion.organization_id, c.id == deletion.id).values(**values)
    )


def note_archive(tx: Tx, actor: Actor, deletion_id: str | None, archive: str) -> None:
    """Note the archive that was exported before a purge."""
    if archive and deletion_id is not None:
        change(tx, get(tx, actor, deletion_id), archive=archive)


def add_members(tx: Tx, actor: Actor, deletion_id: str, going: Sequence[Candidate]) -> None:
    """Note what belongs to a deletion, with the state that each had."""
    c, names = t.items.c, ("organization_id", "deletion_id", "item_id", "kind", "previous_state", "outcome")
    noted = select(
        c.organization_id, literal(deletion_id, types.Id()), c.id, c.kind, c.state, literal("trashed", types.TEXT)
    )
    ids = packed([candidate.id for candidate in going], tx.database)
    mine = (c.organization_id == actor.organization_id, c.id.in_(ids))
    tx.execute(insert_into(t.deletion_members).from_select(names, noted.where(*mine), include_defaults=False))


def move_to_trash(tx: Tx, actor: Actor, deletion_id: str) -> None:
    """Put all members of a deletion into the trash, in one statement."""
    c, members = t.items.c, ids_of(actor, deletion_id)
    moved = {"state": State.trashed, "deletion_id": deletion_id, "version": c.version + 1, "updated_at": tx.now}
    tx.execute(update(t.items).where(c.organization_id == actor.organization_id, c.id.in_(members)).values(moved))


def set_state(tx: Tx, actor: Actor, ids: Sequence[str], state: State) -> None:
    """Archive or unarchive."""
    c = t.items.c
    for part in parts(ids):
        moved = {"state": state, "version": c.version + 1, "updated_at": tx.now}
        tx.execute(update(t.items).where(c.organization_id == actor.organization_id, c.id.in_(part)).values(moved))


def set_lock(tx: Tx, actor: Actor, id: str, locked: bool) -> None:
    """Lock or unlock one object."""
    c = t.items.c
    changed = {"locked": locked, "version": c.version + 1, "updated_at": tx.now}
    tx.execute(update(t.items).where(c.organization_id == actor.organization_id, c.id == id).values(changed))


def enqueue_purge(tx: Tx, actor: Actor, deletion: Deletion, total: int) -> str:
    """Enqueue the job that purges ``deletion``, and answer its id; that of the job at work when there is one."""
    payload = {"deletion_id": deletion.id, "workspace_id": deletion.workspace_id}
    return jobs.enqueue(tx, actor, "purge", payload, dedupe=f"purge {deletion.id}", total=total)


def find_applied(tx: Tx, actor: Actor, plan_hash: str) -> Deletion | None:
    """The deletion that applied a plan."""
    c = t.deletions.c
    mine = (c.organization_id == actor.organization_id, c.workspace_id == actor.workspace_id, c.plan_hash == plan_hash)
    found = tx.one(select(*COLUMNS).where(*mine, c.state != "cancelled").order_by(c.id).limit(1))
    return None if found is None else Deletion(**found)


def stop_runs(tx: Tx, actor: Actor, members: Select[Any]) -> None:
    """Stop what is running among ``members`` (a query of ids): runs, running experiments, and the runs of those."""
    r, d = t.runs.c, t.documents.c
    stopped = {"status": Status.stopped, "finished_at": tx.now, "heartbeat_at": None}
    for owner in (r.id, r.document_id):
        mine = (r.organization_id == actor.organization_id, owner.in_(members), r.status.in_(BUSY))
        tx.execute(update(t.runs).where(*mine).values(stopped))
    running = (d.organization_id == actor.organization_id, d.id.in_(members), d.status == "running")
    tx.execute(update(t.documents).where(*running).values(status="stopped"))


def ids_of(actor: Actor, deletion_id: str) -> Select[Any]:
    """The ids of all that belongs to a deletion, as a query."""
    m = t.deletion_members.c
    return select(m.item_id).where(m.organization_id == actor.organization_id, m.deletion_id == deletion_id)


# --- bindings ---------------------------------------------------------------------------------------------------------


def unbind(tx: Tx, actor: Actor, deletion_id: str, going: Sequence[Candidate]) -> None:
    """Take environments and links off what goes, and note them so that restoring puts them back."""
    b = t.deletion_bindings.c
    mine = (b.organization_id == actor.organization_id, b.deletion_id == deletion_id)
    number = tx.execute(select(func.count()).where(*mine)).scalar_one() if going else 0
    for candidate in going:
        for dependent in candidate.dependents:
            if dependent.type not in ("environment", "link"):
                continue
            take = _unbind_environment if dependent.type == "environment" else _remove_link
            body = take(tx, actor, dependent.id)
            row = {
                "organization_id": actor.organization_id,
                "deletion_id": deletion_id,
                "number": number,
                "type": dependent.type,
                "subject_id": dependent.id,
                "item_id": candidate.id,
                "body": body,
                "outcome": "unbound",
            }
            tx.insert(t.deletion_bindings, [row])
            tx.audit(actor, f"{dependent.type}.unbound", dependent.id, deletion_id=deletion_id, item_id=candidate.id)
            number += 1


def _unbind_environment(tx: Tx, actor: Actor, id: str) -> Json:
    c = t.environments.c
    same = (c.organization_id == actor.organization_id, c.id == id)
    before = tx.execute(select(c.document_id, c.number).where(*same)).one()
    tx.execute(update(t.environments).where(*same).values(document_id=None, number=None, updated_at=tx.now))
    return {"document_id": before[0], "number": before[1]}


def _remove_link(tx: Tx, actor: Actor, id: str) -> Json:
    c = t.links.c
    same = (c.organization_id == actor.organization_id, c.id == id)
    row = tx.execute(select(c.source_id, c.target_id, c.type, c.on_delete).where(*same)).one()
    tx.execute(t.links.delete().where(*same))
    return dict(zip(("source_id", "target_id", "type", "on_delete"), map(str, row), strict=True))


def rebind(tx: Tx, actor: Actor, deletion_id: str, ids: Collection[str] | None) -> list[Json]:
    """Put back the bindings of ``ids``, or all (None); answers those that could not be, and why."""
    c = t.deletion_bindings.c
    mine = (c.organization_id == actor.organization_id, c.deletion_id == deletion_id, c.outcome == "unbound")
    refused: list[Json] = []
    wanted = None if ids is None else frozenset(ids)
    near = [c.item_id.between(min(wanted), max(wanted))] if wanted else []
    for row in tx.all(select(t.deletion_bindings).where(*mine, *near).order_by(c.number)):
        if wanted is not None and row["item_id"] not in wanted:
            continue
        bind = _rebind_environment if row["type"] == "environment" else _relink
        why = bind(tx, actor, row["subject_id"], row["body"])
        outcome = why or "rebound"
        tx.execute(update(t.deletion_bindings).where(*mine, c.number == row["number"]).values(outcome=outcome))
        if why:
            refused.append({"type": row["type"], "id": row["subject_id"], "item_id": row["item_id"], "reason": why})
        else:
            tx.audit(actor, f"{row['type']}.bound", row["subject_id"], deletion_id=deletion_id, item_id=row["item_id"])
    return refused


def _rebind_environment(tx: Tx, actor: Actor, id: str, body: Json) -> str:
    c = t.environments.c
    same = (c.organization_id == actor.organization_id, c.id == id)
    now = tx.one(select(c.name, c.document_id).where(*same))
    if now is None:
        return "the environment is gone"
    if now["document_id"] is not None:
        return f"environment {now['name']} is bound to {now['document_id']} now"
    tx.execute(update(t.environments).where(*same).values(**body, updated_at=tx.now))
    return ""


def _relink(tx: Tx, actor: Actor, id: str, body: Json) -> str:
    c = t.items.c
    ends = (body["source_id"], body["target_id"])
    alive = select(c.id).where(c.organization_id == actor.organization_id, c.id.in_(ends), c.state != State.purged)
    if len(tx.all(alive)) < len(set(ends)):
        return "one end of the link is gone"
    tx.upsert(t.links, [{"organization_id": actor.organization_id, "id": id, **body, "created_at": tx.now}])
    return ""


# --- restoring --------------------------------------------------------------------------------------------------------


def find_members(tx: Tx, actor: Actor, deletion_id: str, ids: Collection[str]) -> list[DeletionMember]:
    """Those of ``ids`` that are still in the trash. NotFound for one that never belonged to the deletion."""
    m = t.deletion_members.c
    query = select(*MEMBER_COLUMNS).where(m.organization_id == actor.organization_id, m.deletion_id == deletion_id)
    found = [DeletionMember(**row) for part in parts(sorted(ids)) for row in tx.all(query.where(m.item_id.in_(part)))]
    missing = set(ids) - {member.item_id for member in found}
    if missing:
        raise NotFound(f"object {min(missing)} does not belong to deletion {deletion_id}")
    return [member for member in found if member.outcome == "trashed"]


def count_held(tx: Tx, actor: Actor, deletion_id: str) -> int:
    """How many members are still in the trash."""
    return sum(held_counts(tx, actor, deletion_id).values())


def held_counts(tx: Tx, actor: Actor, deletion_id: str, outcome: str = "trashed") -> dict[str, int]:
    """How many members of each kind are still in the trash."""
    m = t.deletion_members.c
    mine = (m.organization_id == actor.organization_id, m.deletion_id == deletion_id, m.outcome == outcome)
    query = select(m.kind, func.count()).where(*mine).group_by(m.kind).order_by(m.kind)
    return {str(kind): count for kind, count in tx.execute(query)}


def count_members(tx: Tx, actor: Actor, deletion_id: str) -> int:
    """How many members a deletion has, whatever became of them but for what it only names."""
    m = t.deletion_members.c
    mine = (m.organization_id == actor.organization_id, m.deletion_id == deletion_id, m.outcome != "kept")
    return int(tx.execute(select(func.count()).select_from(t.deletion_members).where(*mine)).scalar_one())


def batches(tx: Tx, actor: Actor, deletion_id: str) -> Iterator[list[str]]:
    """The ids of what a deletion still holds."""
    m = t.deletion_members.c
    query = ids_of(actor, deletion_id).where(m.outcome == "trashed").order_by(m.item_id).limit(BATCH)
    last: list[str] = []
    while not last or len(last) == BATCH:
        last = [row[0] for row in tx.execute(query.where(m.item_id > last[-1]) if last else query)]
        if not last:
            return
        yield last


def homes(tx: Tx, actor: Actor, deletion_id: str) -> list[str]:
    """The projects that something of what a deletion holds came from, or that it holds itself."""
    c = t.items.c
    mine = (c.organization_id == actor.organization_id, c.deletion_id == deletion_id)
    found = tx.execute(select(func.coalesce(c.project_id, c.id)).where(*mine).distinct())
    return sorted(row[0] for row in found)


def inside(tx: Tx, actor: Actor, deletion_id: str) -> dict[str, list[str] | None]:
    """What other deletions hold of what lies in the projects and artifacts of this one; None is all that one holds."""
    c, m, d = t.items.c, t.deletion_members.c, t.deletions.c
    held = ids_of(actor, deletion_id).where(m.outcome == "trashed")
    lies = or_(
        c.project_id.in_(held.where(m.kind == Kind.project)),
        and_(c.parent_id.in_(held.where(m.kind == Kind.artifact)), t.in_artifact),
    )
    here = (c.organization_id == actor.organization_id, c.state == State.trashed, c.deletion_id != deletion_id, lies)
    if not tx.execute(held.where(m.kind.in_((Kind.project, Kind.artifact))).limit(1)).first():
        return {}
    found: dict[str, list[str] | None] = {}
    joined = t.items.join(t.deletions, and_(d.organization_id == c.organization_id, d.id == c.deletion_id))
    counts = select(c.deletion_id, func.count()).select_from(joined).where(*here, d.state == "trashed")
    for id, count in tx.execute(counts.group_by(c.deletion_id)).all():
        part = select(c.id).where(*here, c.deletion_id == id)
        whole = count == count_held(tx, actor, id)
        found[id] = None if whole else [row[0] for row in tx.execute(part.order_by(c.id))]
    return dict(sorted(found.items()))


def latest_promise(tx: Tx, actor: Actor, ids: Collection[str]) -> datetime | None:
    """Until when the last of these deletions can be restored."""
    c = t.deletions.c
    query = select(func.max(c.restorable_until)).where(c.organization_id == actor.organization_id)
    moments = [tx.execute(query.where(c.id.in_(part))).scalar_one() for part in parts(sorted(ids))]
    return max((moment for moment in moments if moment is not None), default=None)


class Held(NamedTuple):
    """Members of a deletion that come back: all that it holds (``members`` is None), or some of it."""

    organization_id: str
    deletion_id: str
    members: Sequence[DeletionMember] | None
    counts: dict[str, int]
    within: Select[Any] | None = None
    """Of some of it, their ids as a query, where there is one."""

    @classmethod
    def among_those(cls, tx: Tx, actor: Actor, deletion_id: str, within: Select[Any]) -> Held:
        """What is still there of the ids that ``within`` selects, whatever else the deletion holds."""
        m = t.deletion_members.c
        mine = (m.organization_id == actor.organization_id, m.deletion_id == deletion_id, m.outcome == "trashed")
        rows = tx.execute(select(*MEMBER_COLUMNS).where(*mine, m.item_id.in_(within)).order_by(m.item_id))
        members = [DeletionMember(**row) for row in rows.mappings()]
        some = Counter(str(member.kind) for member in members)
        return cls(actor.organization_id, deletion_id, members, dict(sorted(some.items())), within)

    @classmethod
    def of(cls, tx: Tx, actor: Actor, deletion_id: str, ids: Collection[str]) -> Held:
        """What is still there of ``ids``; of the whole deletion when none are named."""
        counts = held_counts(tx, actor, deletion_id)
        if not ids:
            return cls(actor.organization_id, deletion_id, None, counts)
        members = find_members(tx, actor, deletion_id, ids)
        if len(members) == sum(counts.values()):
            return cls(actor.organization_id, deletion_id, None, counts)
        some = Counter(str(member.kind) for member in members)
        return cls(actor.organization_id, deletion_id, members, dict(sorted(some.items())))

    @property
    def ids(self) -> list[str] | None:
        """Which members come back; None for all."""
        return None if self.members is None else [member.item_id for member in self.members]

    def query(self, *states: State) -> Select[Any]:
        """The ids of all that the deletion holds (that was in one of ``states``)."""
        m = t.deletion_members.c
        mine = (m.organization_id == self.organization_id, m.deletion_id == self.deletion_id, m.outcome == "trashed")
        query = select(m.item_id).where(*mine, *([m.previous_state.in_(states)] if states else []))
        return query if self.within is None else query.where(m.item_id.in_(self.within))

    def among(self, column: ColumnElement[str], *states: State) -> Iterator[ColumnElement[bool]]:
        """Conditions that together say that ``column`` names a member (that was in one of ``states``).

        One condition when all comes back, whatever the number; else one for each part of the ids.
        """
        if self.members is None or self.within is not None:
            yield column.in_(self.query(*states))
            return
        ids = [member.item_id for member in self.members if not states or member.previous_state in states]
        yield from (column.in_(part) for part in parts(ids))

    def first(self, tx: Tx, limit: int) -> Sequence[DeletionMember]:
        """The first members, by id, that the answer shows."""
        if self.members is not None:
            return self.members[:limit]
        m = t.deletion_members.c
        mine = (m.organization_id == self.organization_id, m.deletion_id == self.deletion_id, m.outcome == "trashed")
        rows = tx.all(select(*MEMBER_COLUMNS).where(*mine).order_by(m.item_id).limit(limit))
        return [DeletionMember(**row) for row in rows]


def check_homes(tx: Tx, held: Held) -> None:
    """Illegal when something would come back into a container that stays in the trash."""
    c = t.items.c
    for column in (c.project_id, c.parent_id):
        homes: set[str] = set()
        for condition in held.among(c.id):
            mine = [c.organization_id == held.organization_id, condition, column.is_not(None)]
            if held.members is None:
                mine.append(column.not_in(held.query()))
            homes.update(row[0] for row in tx.execute(select(column).where(*mine).distinct()))
        for part in parts(sorted(homes.difference(held.ids or ()))):
            facts = select(c.id, c.kind, c.name, c.state, c.deletion_id)
            here = (c.organization_id == held.organization_id, c.id.in_(part))
            # Nobody may trash the container until what comes back into it is there.
            for home in tx.execute(facts.where(*here).with_for_update(read=True)).all():
                if home[3] not in LIVE:
                    raise _homeless(tx, held, column, *home)


def _homeless(
    tx: Tx, held: Held, column: ColumnElement[str], id: str, kind: Kind, name: str, state: State, deletion_id: str
) -> Illegal:
    c = t.items.c
    for condition in held.among(c.id):
        mine = (c.organization_id == held.organization_id, condition, column == id)
        found = tx.execute(select(c.kind, c.name).where(*mine).limit(1)).first()
        if found is not None:
            break
    assert found is not None, id
    what = f"{found[0]} {found[1]} cannot come back: its {kind} {name or id} is {state}"
    if state == State.trashed:
        what += f"; restore deletion {deletion_id} first"
    return Illegal(what, deletion_id=deletion_id)


def rename_members(tx: Tx, actor: Actor, names: dict[str, str], held: Held) -> None:
    """Give members new names before they come back."""
    c = t.items.c
    coming = {
        row[0]
        for part in parts(sorted(filter(is_id, names)))
        for condition in held.among(c.id)
        for row in tx.execute(select(c.id).where(c.organization_id == held.organization_id, c.id.in_(part), condition))
    }
    for id, name in names.items():
        if id not in coming:
            raise NotFound(f"object {id[:80]} is not among what comes back", path="names")
        same = (c.organization_id == actor.organization_id, c.id == id)
        tx.execute(update(t.items).where(*same, c.handle.is_not(None)).values(handle=name))
        tx.execute(update(t.items).where(*same).values(name=name))


def check_names(tx: Tx, held: Held) -> None:
    """AlreadyExists, with names that are free, when live objects hold the names of what comes back by now.

    Invalid when two members were given one new name.
    """
    _check_twice(tx, held)
    offers = offered_names(tx, held)
    if offers:
        first = offers[0]
        raise AlreadyExists(
            f"{first['kind']} {first['name']!r} exists again: restore under another name, for example "
            f"{first['suggestion']!r} (pass names)",
            taken=offers,
        )


def _check_twice(tx: Tx, held: Held) -> None:
    c = t.items.c
    place = (c.parent_id, c.kind, c.type, c.handle)
    counted: Counter[tuple[str, ...]] = Counter()
    for condition in held.among(c.id):
        mine = (c.organization_id == held.organization_id, condition, c.handle.is_not(None))
        grouped = select(*place, func.count()).where(*mine).group_by(*place)
        if held.members is None:
            grouped = grouped.having(func.count() > 1)
        for *key, count in tx.execute(grouped):
            counted[tuple(map(str, key))] += count
    for (_, kind, _, handle), count in counted.items():
        if count > 1:
            raise Invalid(f"{count} {kind}s would come back as {handle!r}: give each a name of its own", path="names")


def offered_names(tx: Tx, held: Held, limit: int = 100) -> list[Json]:
    """Members whose names are taken by now, each with who has it, and a name that is free."""
    found = [taken for taken, _ in zip(_taken(tx, held), range(limit), strict=False)]
    return [
        {"id": id, "kind": str(kind), "name": name, "taken_by": by, "suggestion": _free_name(tx, held, id, name)}
        for id, kind, name, by in found
    ]


def _free_name(tx: Tx, held: Held, id: str, name: str) -> str:
    c, live = t.items.c, t.items.alias()
    same = [live.c[column] == c[column] for column in ("organization_id", "parent_id", "kind", "type")]
    beside = select(live.c.handle).select_from(t.items.join(live, and_(*same, t.holds_name(live))))
    mine = (c.organization_id == held.organization_id, c.id == id)
    number = 1
    while True:
        wanted = f"{name[:480]}-restored-{id[-4:]}" + (f"-{number}" if number > 1 else "")
        if tx.one(beside.where(*mine, live.c.handle == wanted).limit(1)) is None:
            return wanted
        number += 1


def taken_slots(tx: Tx, held: Held, limit: int = 100) -> list[Json]:
    """Environments that were unbound, and are bound to something else by now."""
    b, e = t.deletion_bindings.c, t.environments.c
    joined = t.deletion_bindings.join(
        t.environments, and_(e.organization_id == b.organization_id, e.id == b.subject_id)
    )
    mine = (b.organization_id == held.organization_id, b.deletion_id == held.deletion_id, b.outcome == "unbound")
    query = select(e.id, e.name, e.document_id, b.item_id).select_from(joined)
    found: list[Json] = []
    for condition in held.among(b.item_id):
        for id, name, bound, item_id in tx.execute(
            query.where(*mine, condition, b.type == "environment", e.document_id.is_not(None)).limit(limit)
        ):
            found.append({"type": "environment", "id": id, "name": name, "item_id": item_id, "taken_by": bound})
    return found[:limit]


def taken_names(tx: Tx, held: Held) -> list[tuple[str, str]]:
    """Members whose names live objects hold by now, each with that object."""
    return [(id, holder) for id, _, _, holder in _taken(tx, held)]


def _taken(tx: Tx, held: Held) -> Iterator[tuple[str, Kind, str, str]]:
    c, live = t.items.c, t.items.alias()
    same = and_(
        live.c.organization_id == c.organization_id,
        live.c.parent_id == c.parent_id,
        live.c.kind == c.kind,
        live.c.type == c.type,
        live.c.handle == c.handle,
        t.holds_name(live),
    )
    for condition in held.among(c.id):
        query = select(c.id, c.kind, c.handle, live.c.id).select_from(t.items.join(live, same))
        mine = (c.organization_id == held.organization_id, condition, c.handle.is_not(None))
        for id, kind, handle, holder in tx.execute(query.where(*mine)):
            yield id, kind, str(handle), holder


def homeless(tx: Tx, held: Held) -> list[tuple[str, str, str]]:
    """Members whose container neither lives nor comes back with them: its kind, and its id."""
    c, home = t.items.c, t.items.alias()
    coming = frozenset(held.ids or ())
    found: list[tuple[str, str, str]] = []
    for column in (c.project_id, c.parent_id):
        joined = t.items.join(home, and_(home.c.organization_id == c.organization_id, home.c.id == column))
        for condition in held.among(c.id):
            mine = (c.organization_id == held.organization_id, condition, home.c.state.not_in(LIVE))
            rows = tx.execute(select(c.id, home.c.kind, home.c.id).select_from(joined).where(*mine))
            found += [(id, str(kind), home_id) for id, kind, home_id in rows if home_id not in coming]
    return found


def move_back(tx: Tx, actor: Actor, deletion: Deletion, held: Held) -> None:
    """Give members their states back, and close the deletion when nothing is left in it."""
    c, m = t.items.c, t.deletion_members.c
    for state in LIVE:
        back = {"state": state, "deletion_id": None, "version": c.version + 1, "updated_at": tx.now}
        for condition in held.among(c.id, state):
            tx.execute(update(t.items).where(c.organization_id == held.organization_id, condition).values(back))
    belongs = (m.organization_id == held.organization_id, m.deletion_id == deletion.id, m.outcome == "trashed")
    some = [()] if held.members is None else [(condition,) for condition in held.among(m.item_id)]
    for which in some:
        tx.execute(update(t.deletion_members).where(*belongs, *which).values(outcome="restored"))
    # By the objects, which have left the index of the deletion, and not by its members, which stay.
    left = (c.organization_id == actor.organization_id, c.deletion_id == deletion.id, c.state == State.trashed)
    if tx.execute(select(c.id).where(*left).limit(1)).first() is None:
        change(tx, deletion, state="restored", restored_at=tx.now)


# --- before a purge ---------------------------------------------------------------------------------------------------


def split(tx: Tx, actor: Actor, deletion: Deletion, members: Sequence[DeletionMember]) -> Deletion:
    """Move ``members`` into a deletion of their own, equal in all else. What stays is counted again.

    A purge that is under way committed to them: its record goes on naming them, as kept.
    """
    c, m, b = t.items.c, t.deletion_members.c, t.deletion_bindings.c
    part_of = msgspec.structs.replace(deletion, id=tx.new_id())
    tx.insert(t.deletions, [{**msgspec.structs.asdict(part_of), "selection": {"split_from": deletion.id}}])
    for part in parts([member.item_id for member in members]):
        mine = (m.organization_id == actor.organization_id, m.deletion_id == deletion.id, m.item_id.in_(part))
        tx.execute(update(t.deletion_members).where(*mine).values(deletion_id=part_of.id))
        unbound = (b.organization_id == actor.organization_id, b.deletion_id == deletion.id, b.item_id.in_(part))
        tx.execute(update(t.deletion_bindings).where(*unbound).values(deletion_id=part_of.id))
        held = (c.organization_id == actor.organization_id, c.id.in_(part))
        tx.execute(update(t.items).where(*held).values(deletion_id=part_of.id))
    if deletion.state == "purging":
        key = {"organization_id": actor.organization_id, "deletion_id": deletion.id}
        tx.insert(
            t.deletion_members,
            [{**msgspec.structs.asdict(member), **key, "outcome": "kept"} for member in members],
        )
    moved, left = _totals(tx, actor, part_of.id), _totals(tx, actor, deletion.id)
    if deletion.state == "purging":  # what has gone already holds nothing any more
        left["bytes"] = max(deletion.bytes - moved["bytes"], 0)
    change(tx, part_of, **moved)
    change(tx, deletion, **left)
    return get(tx, actor, part_of.id)


def forget_kept(tx: Tx, actor: Actor, deletion_id: str) -> None:
    """Drop the names of what a purge kept, where nothing of it went: there is no purge to be accounted for."""
    m = t.deletion_members.c
    mine = (m.organization_id == actor.organization_id, m.deletion_id == deletion_id, m.outcome == "kept")
    tx.execute(delete(t.deletion_members).where(*mine))


def _totals(tx: Tx, actor: Actor, deletion_id: str) -> dict[str, Any]:
    """Members of a deletion by kind, whatever became of them but for what it only names, and the bytes that they hold."""
    c, m = t.items.c, t.deletion_members.c
    joined = t.deletion_members.join(t.items, and_(c.organization_id == m.organization_id, c.id == m.item_id))
    mine = (m.organization_id == actor.organization_id, m.deletion_id == deletion_id, m.outcome != "kept")
    query = select(m.kind, func.count(), func.sum(c.bytes)).select_from(joined).where(*mine).group_by(m.kind)
    found = tx.execute(query.order_by(m.kind)).all()
    return {"counts": {str(kind): count for kind, count, _ in found}, "bytes": int(sum(row[2] for row in found))}


def commit_to(tx: Tx, actor: Actor, deletion_id: str) -> str:
    """SHA-256 over kind, id, size and content digests of all that a purge will remove, in order of ids."""
    c, m, f, s, r = t.items.c, t.deletion_members.c, t.files.c, t.segments.c, t.removals.c
    mine = (m.organization_id == actor.organization_id, m.deletion_id == deletion_id, m.outcome == "trashed")
    ids = select(m.item_id).where(*mine)
    digest = hashlib.sha256()
    for id, kind, size in tx.execute(
        select(c.id, c.kind, c.bytes).where(c.organization_id == actor.organization_id, c.id.in_(ids)).order_by(c.id)
    ):
        digest.update(f"{kind} {id} {size}\n".encode())
    held = ((t.files, f.owner_id, f.digest), (t.segments, s.run_id, s.digest), (t.removals, r.item_id, r.digest))
    for table, owner, name in held:
        mine = (table.c.organization_id == actor.organization_id, owner.in_(ids), name != "")
        query = select(owner, name).where(*mine)
        for id, content in tx.execute(query.order_by(owner, name)):
            digest.update(f"blob {id} {content}\n".encode())
    return digest.hexdigest()


# --- the trash --------------------------------------------------------------------------------------------------------


class TrashOrder(NamedTuple):
    """What the trash is sorted by, before the id; and how that stands in a cursor."""

    key: ColumnElement[Any]
    descending: bool
    type: type[Any]


TRASH_ORDERS: dict[str, TrashOrder] = {
    "newest": TrashOrder(t.items.c.deletion_id, True, str),
    "oldest": TrashOrder(t.items.c.deletion_id, False, str),
    "largest": TrashOrder(t.items.c.bytes, True, int),
    "due": TrashOrder(t.deletions.c.restorable_until, False, datetime),
}


def trashed(
    tx: Tx, actor: Actor, kind: str, project_id: str | None, order: str, after: tuple[Any, str] | None, limit: int
) -> Sequence[Any]:
    """Rows of the trash, by one of `TRASH_ORDERS`."""
    c, d = t.items.c, t.deletions.c
    by = TRASH_ORDERS[order]
    joined = t.items.join(t.deletions, and_(d.organization_id == c.organization_id, d.id == c.deletion_id))
    query = (
        select(
            *(c[name] for name in ("id", "kind", "type", "name", "project_id", "bytes", "deletion_id")),
            d.created_at.label("trashed_at"),
            d.actor.label("trashed_by"),
            d.reason,
            d.ticket,
            d.restorable_until,
        )
        .select_from(joined)
        .where(
            c.organization_id == actor.organization_id,
            c.workspace_id == actor.workspace_id,
            c.state == State.trashed,
            d.state != "importing",
        )
    )
    if kind:
        query = query.where(c.kind == kind)
    if project_id is not None:
        query = query.where(c.project_id == project_id)
    if after is not None:
        place = tuple_(by.key, c.id)
        query = query.where(place < after if by.descending else place > after)
    keys = [key.desc() if by.descending else key.asc() for key in (by.key, c.id)]
    return tx.all(query.order_by(*keys).limit(limit))

"""Imports in SQL. What is imported lies in the trash, in a deletion that is still being filled, until all of it is there:
finishing an import is taking that deletion back, and giving it up is purging it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Column, exists, select, update

from labkeep.core.access import Actor
from labkeep.core.commands_transfer import Import
from labkeep.core.entities import Deletion, File, Item
from labkeep.core.errors import Invalid, NotFound
from labkeep.core.lifecycle import LIVE, State
from labkeep.storage import blob_refs, deletions, file_rows, index, records
from labkeep.storage import tables as t
from labkeep.storage.transaction import Tx

IMPORTING = "importing"
"""State of the deletion that an import fills."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for when an import began, and how far it is."""

    archive: str
    remap: bool = False
    into: str | None = None
    name: str | None = None
    parts: int = 0
    counts: dict[str, int] = {}


_SELECTION = t.deletions.c.selection


def begin(tx: Tx, deletion: Deletion, options: Options) -> None:
    """Store a new import."""
    tx.insert(t.deletions, [{**msgspec.structs.asdict(deletion), "selection": msgspec.to_builtins(options)}])


def get(tx: Tx, actor: Actor, id: str, *, lock: bool = False) -> tuple[Deletion, Options]:
    """An import that is under way. NotFound for anything else."""
    found = deletions.get(tx, actor, id, lock=lock)
    if found.state != IMPORTING:
        raise NotFound(f"there is no import {id} under way: it was finished or given up")
    stored = tx.execute(select(_SELECTION).where(*_same(found))).scalar_one()
    return found, msgspec.convert(stored, Options)


def shown(deletion: Deletion, options: Options) -> Import:
    """An import as its owner sees it."""
    return Import(
        id=deletion.id,
        state=deletion.state,
        archive=options.archive,
        remap=options.remap,
        parts=options.parts,
        counts=options.counts,
        created_at=deletion.created_at,
    )


def note(tx: Tx, deletion: Deletion, options: Options) -> None:
    """Note how far an import is."""
    tx.execute(update(t.deletions).where(*_same(deletion)).values(selection=msgspec.to_builtins(options)))


def close(tx: Tx, deletion: Deletion, options: Options) -> None:
    """All of it is there: from here on it is a deletion like any other."""
    kept = {"ids": sum(options.counts.values()), "archive": options.archive}
    values = {"state": "trashed", "counts": options.counts, "items": sum(options.counts.values()), "selection": kept}
    tx.execute(update(t.deletions).where(*_same(deletion)).values(values))


def taken(tx: Tx, actor: Actor, ids: Sequence[str]) -> list[str]:
    """Which of ``ids`` are ids of objects here, whatever their state and workspace."""
    found: list[str] = []
    for part in deletions.parts(sorted(set(ids))):
        query = select(t.items.c.id).where(t.items.c.organization_id == actor.organization_id, t.items.c.id.in_(part))
        found += [row[0] for row in tx.execute(query)]
    return found


def members(tx: Tx, deletion: Deletion, ids: Sequence[str]) -> dict[str, Item]:
    """Those of ``ids`` that belong to an import."""
    i = t.items.c
    found: dict[str, Item] = {}
    for part in deletions.parts(sorted(set(ids))):
        query = select(*(i[name] for name in Item.__struct_fields__)).where(
            i.organization_id == deletion.organization_id, i.deletion_id == deletion.id, i.id.in_(part)
        )
        found.update({row["id"]: Item(**row) for row in tx.all(query)})
    return found


def add_objects(tx: Tx, deletion: Deletion, items: Sequence[Item], previous: Mapping[str, State]) -> None:
    """Store objects of one kind as members of an import, with the states that finishing gives them."""
    if not items:
        return
    records.insert_items(tx, items, into_trash=True)
    index.add(tx, items)
    rows = [
        {
            "organization_id": item.organization_id,
            "deletion_id": deletion.id,
            "item_id": item.id,
            "kind": item.kind,
            "previous_state": previous[item.id] if previous[item.id] in LIVE else State.active,
            "outcome": "trashed",
        }
        for item in items
    ]
    tx.insert(t.deletion_members, rows)


def add_files(tx: Tx, actor: Actor, project_id: str | None, files: Sequence[File]) -> None:
    """Store files of one project whose blobs were uploaded. NotFound for one that was not, Invalid for another size."""
    blobs = blob_refs.names(tx, actor, project_id, [file.digest for file in files])
    sizes = blob_refs.refer_all(tx, actor, Counter(blobs[file.digest] for file in files))
    for file in files:
        if sizes[blobs[file.digest]] != file.size:
            raise Invalid(f"blob {file.digest} has another size than {file.size} bytes", path="files")
    tx.insert(t.files, [file_rows.row_of(actor.organization_id, file, blobs[file.digest]) for file in files])


_REFERENCES: tuple[tuple[Any, Column[str]], ...] = (
    (t.runs, t.runs.c.base_run_id),
    (t.runs, t.runs.c.document_id),
    (t.artifact_versions, t.artifact_versions.c.run_id),
)


def clear_dangling(tx: Tx, deletion: Deletion) -> int:
    """Clear references of an import to what is not here; answers how many."""
    i, m = t.items.alias(), t.deletion_members.c
    mine = select(m.item_id).where(m.organization_id == deletion.organization_id, m.deletion_id == deletion.id)
    cleared = 0
    for table, column in _REFERENCES:
        there = exists(select(1).where(i.c.organization_id == table.c.organization_id, i.c.id == column))
        where = (table.c.organization_id == deletion.organization_id, table.c.id.in_(mine), column.is_not(None), ~there)
        cleared += max(0, tx.execute(update(table).where(*where).values({column.name: None})).rowcount)
    return cleared


def long_streams(tx: Tx, deletion: Deletion, rows: int) -> list[tuple[str, str]]:
    """Run and stream of imported histories with at least ``rows`` rows that are not sealed."""
    s, m = t.streams.c, t.deletion_members.c
    mine = select(m.item_id).where(m.organization_id == deletion.organization_id, m.deletion_id == deletion.id)
    query = select(s.run_id, s.stream).where(
        s.organization_id == deletion.organization_id, s.run_id.in_(mine), s.unsealed >= rows
    )
    return [(row[0], row[1]) for row in tx.execute(query.order_by(s.run_id, s.stream))]


def _same(deletion: Deletion) -> tuple[Any, ...]:
    c = t.deletions.c
    return c.organization_id == deletion.organization_id, c.id == deletion.id

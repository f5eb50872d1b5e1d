"""Checks of what is encrypted: every content has its key, every key opens, and what was destroyed stays so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from sqlalchemy import Text, and_, exists, func, select, type_coerce

from labkeep.core.errors import Corrupt, Gone, NotFound, Unavailable
from labkeep.core.ids import is_id
from labkeep.core.lifecycle import State
from labkeep.storage import data_keys, destroyed_keys
from labkeep.storage import tables as t
from labkeep.storage.blobs import key_of_name, name_of_key
from labkeep.storage.check_problem import Problem, Subject
from labkeep.storage.cipher import MARK
from labkeep.storage.data_keys import Box, place_of_body, place_of_row
from labkeep.storage.histories import opened
from labkeep.storage.metrics import Place

SAMPLE = 200
"""Values of each table that are opened."""

NOTED = 500
"""Keys looked up in one statement."""

_k = t.data_keys.c

UNREADABLE = (Corrupt, Gone, NotFound, Unavailable)
"""What opening something may end in."""


def keys(s: Subject) -> Iterator[Problem | int]:
    """All of it, in the order of how much depends on it."""
    yield from _open(s)
    yield from _of_blobs(s)
    yield from _of_purged(s)
    yield from _noted(s)
    yield from _values(s)


def _problem(subject: str, message: str, repair: str) -> Problem:
    return Problem("keys", subject, message, repair)


def _open(s: Subject) -> Iterator[Problem | int]:
    """Every key opens with a master key that is here."""
    columns = (_k.organization_id, _k.id, _k.wrapped, _k.master)
    query = select(*columns).where(_k.destroyed_at.is_(None)).execution_options(yield_per=1000)
    missing: dict[str, int] = {}
    for row in s.connection.execute(query).mappings():
        yield 1
        try:
            data_keys.unwrap(s.reader, row["organization_id"], row)
        except Unavailable:
            missing[row["master"]] = missing.get(row["master"], 0) + 1
        except Corrupt as error:
            yield _problem(row["id"], str(error), "restore data_keys from a backup")
    for master, count in missing.items():
        needed = "1 data key needs" if count == 1 else f"{count} data keys need"
        message = f"{needed} this master key, which the settings do not give"
        yield _problem(f"master key {master}", message, "set master_key_file, or old_master_key_file, and check again")


def _of_blobs(s: Subject) -> Iterator[Problem | int]:
    """Every encrypted blob has its key, and every key of a blob has its blob."""
    b = t.blobs.c
    names = select(b.digest).where(b.digest.like("key:%"), b.swept_at.is_(None))
    for part in s.connection.execute(names.execution_options(yield_per=NOTED)).partitions():
        yield len(part)
        wanted = {key: row[0] for row in part if (key := key_of_name(row[0])) is not None}
        query = select(_k.id).where(_k.id.in_([*wanted]), _k.destroyed_at.is_(None))
        for key_id in wanted.keys() - {row[0] for row in s.reader.execute(query)}:
            yield _problem(wanted[key_id], "is encrypted and its key is gone", "upload its content again, or remove it")
    own = select(_k.id).where(_k.id == _k.owner_id, _k.destroyed_at.is_(None))
    for part in s.connection.execute(own.execution_options(yield_per=NOTED)).partitions():
        blobs = {name_of_key(row[0]): row[0] for row in part}
        there = {row[0] for row in s.reader.execute(select(b.digest).where(b.digest.in_([*blobs])))}
        for name in blobs.keys() - there:
            yield _problem(blobs[name], f"is the key of blob {name}, which is not recorded", "destroy the key")


def _of_purged(s: Subject) -> Iterator[Problem | int]:
    """Nothing that was purged has a key."""
    i = t.items.c
    purged = exists(
        select(1).where(and_(i.organization_id == _k.organization_id, i.id == _k.owner_id, i.state == State.purged))
    )
    for (key_id,) in s.connection.execute(select(_k.id).where(_k.destroyed_at.is_(None), purged)):
        yield _problem(key_id, "is the key of something that was purged", "purge its deletion again")


def _noted(s: Subject) -> Iterator[Problem | int]:
    """What is noted as destroyed is destroyed, also after a restore of the database."""
    for note in destroyed_keys.notes(s.blobs):
        yield len(note.keys)
        ids = [key for key in note.keys if is_id(key)]
        for start in range(0, len(ids), NOTED):
            back = (_k.organization_id == note.organization_id, _k.id.in_(ids[start : start + NOTED]))
            for (key_id,) in s.connection.execute(select(_k.id).where(*back, _k.wrapped.is_not(None))):
                yield _problem(
                    key_id,
                    "was destroyed and is here again: the database comes from a backup",
                    "start the server, which destroys it again; then purge what it belonged to",
                )


def _values(s: Subject) -> Iterator[Problem | int]:
    """A sample of the encrypted values opens."""
    c, r, v = t.chunks.c, t.rows.c, t.versions.c
    chunks = select(c.organization_id, c.run_id, c.stream, c.first_row, c.rows, c.data)
    for row in s.connection.execute(chunks.where(func.substr(c.data, 1, 1) == MARK).limit(SAMPLE)):
        yield from _attempt(f"chunk {row[3]} of run {row[1]}", partial(opened, s.reader, Place(*row[:3]), *row[3:]))
    values = select(r.organization_id, r.owner_id, r.id, r.data)
    for value in s.connection.execute(values.where(func.substr(r.data, 1, 1) == MARK).limit(SAMPLE)):
        box = Box(s.reader, value[0], value[1], None)
        yield from _attempt(f"row {value[2]} of {value[1]}", partial(box.open, value[3], place_of_row(value[2])))
    bodies = select(v.organization_id, v.document_id, v.number, v.body)
    encrypted = type_coerce(v.body, Text).like(f'"{data_keys.TEXT_MARK}%')
    for body in s.connection.execute(bodies.where(encrypted).limit(SAMPLE)):
        box = Box(s.reader, body[0], body[1], None)
        subject = f"version {body[2]} of document {body[1]}"
        yield from _attempt(subject, partial(box.open_json, body[3], place_of_body(body[2])))


def _attempt(subject: str, attempt: Callable[[], object]) -> Iterator[Problem | int]:
    yield 1
    try:
        attempt()
    except Unavailable:  # said once for its master key
        return
    except UNREADABLE as error:
        yield _problem(subject, str(error), "restore it, or its key, from a backup; or purge it")

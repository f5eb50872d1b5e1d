"""Files of runs, documents and artifact versions, looked for by name or pattern, counted, and taken away from runs."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import func, select

from labkeep.core.access import Actor, require
from labkeep.core.commands import Command, FilePath, Key, Limit, Page
from labkeep.core.entities import File, Item, Run
from labkeep.core.ids import Id
from labkeep.operations import removals
from labkeep.operations.files import clean_path
from labkeep.storage import file_rows, records
from labkeep.storage import tables as t
from labkeep.storage.pages import cut, decode_cursor
from labkeep.storage.transaction import Tx


class CountFiles(Command, frozen=True, kw_only=True):
    """How many files an object has, ``hidden`` left out."""

    id: Id
    hidden: Key = ""


class FindFiles(Command, frozen=True, kw_only=True):
    """Files of an object: those at ``paths``, or like a pattern with SQL's ``%`` and ``_``, or all but ``hidden``."""

    id: Id
    hidden: Key = ""
    paths: list[FilePath] = []
    like: Key = ""
    limit: Limit = 100
    cursor: str | None = None


class RunFile(msgspec.Struct, frozen=True):
    """A path of a run."""

    id: Id
    path: FilePath


class DetachFiles(Command, frozen=True, kw_only=True):
    """Files to take away from their runs."""

    files: list[RunFile]


def count(tx: Tx, actor: Actor, command: CountFiles) -> int:
    """How many there are."""
    owner = _readable(tx, actor, command.id)
    query = select(func.count()).select_from(t.files).where(*_of(owner), t.files.c.path != command.hidden)
    return int(tx.execute(query).scalar_one())


def find(tx: Tx, actor: Actor, command: FindFiles) -> Page[File]:
    """Files by path, in order of code points."""
    owner = _readable(tx, actor, command.id)
    path = t.files.c.path
    query = select(*file_rows.COLUMNS).where(*_of(owner), path != command.hidden)
    if command.paths:
        query = query.where(path.in_([clean_path(name) for name in command.paths]))
    elif command.like:
        query = query.where(path.like(command.like, escape="\\"))
    if command.cursor is not None:
        query = query.where(path > decode_cursor(command.cursor, tuple[str])[0])
    found = [File(**row) for row in tx.all(query.order_by(path).limit(command.limit + 1))]
    return cut(found, command.limit, lambda file: file.path)


def detach(tx: Tx, actor: Actor, command: DetachFiles) -> int:
    """Remove files: restorable until their grace period ends. Files that are gone already are passed over."""
    require(actor, "run.write")
    wanted: dict[str, list[str]] = {}
    for file in command.files:
        wanted.setdefault(file.id, []).append(clean_path(file.path))
    gone = 0
    for id, paths in sorted(wanted.items()):
        run = records.get_writable(tx, Run, actor, id)
        removals.protect(tx, actor, run, asked=False)
        for path in dict.fromkeys(paths):
            gone += _detach(tx, actor, run, path)
    return gone


def _detach(tx: Tx, actor: Actor, run: Run, path: str) -> bool:
    if tx.one(select(t.files.c.path).where(*_of(run), t.files.c.path == path)) is None:
        return False
    removals.drop_file(tx, actor, run, path)
    return True


def _readable(tx: Tx, actor: Actor, id: str) -> Item:
    owner = records.get(tx, Item, actor, id)
    require(actor, f"{owner.kind}.read")
    return owner


def _of(owner: Item) -> tuple[Any, ...]:
    return t.files.c.organization_id == owner.organization_id, t.files.c.owner_id == owner.id

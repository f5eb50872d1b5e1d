"""What used which artifact version: links from runs, read in both directions."""

from __future__ import annotations

from contextlib import suppress

from sqlalchemy import and_, func, select

from labkeep.core.access import Actor, require
from labkeep.core.commands import Command, CreateLink, Key
from labkeep.core.entities import ArtifactVersion, Project, Run
from labkeep.core.errors import AlreadyExists
from labkeep.core.ids import Id
from labkeep.core.lifecycle import LIVE, OnDelete
from labkeep.operations import drafts, environments, sessions
from labkeep.operations.artifact_searches import Held, Hits, OfRun, hold
from labkeep.operations.run_searches import Seen
from labkeep.storage import records
from labkeep.storage import tables as t
from labkeep.storage.pages import cut, decode_cursor
from labkeep.storage.transaction import Tx

USED = "used"
"""Type of the link from a run to a version that it read."""

MOST_USERS = 1_000


class Use(Command, frozen=True, kw_only=True):
    """A run reads a version."""

    version_id: Id
    project: Key
    run: Key


def use(tx: Tx, actor: Actor, command: Use) -> Held:
    """Note it; again changes nothing. The version may be trashed all the same: a link of this type keeps nothing."""
    run = sessions.find(tx, actor, command.project, command.run)
    link = CreateLink(source_id=run.id, target_id=command.version_id, type=USED, on_delete=OnDelete.keep)
    with suppress(AlreadyExists):  # raised before anything is written
        environments.link(tx, actor, link)
    return drafts.held(tx, actor, records.get(tx, ArtifactVersion, actor, command.version_id))


def used_by_run(tx: Tx, actor: Actor, command: OfRun) -> Hits:
    """Live versions that a run read, in the order in which it did."""
    require(actor, "artifact_version.read")
    c, li = t.items.c, t.links.c
    edges = and_(li.organization_id == actor.organization_id, li.source_id == command.id, li.type == USED)
    query = select(li.id, li.target_id).join(
        t.items, and_(c.organization_id == li.organization_id, c.id == li.target_id)
    )
    query = query.where(edges, c.state.in_(LIVE))
    total = int(tx.execute(select(func.count()).select_from(query.subquery())).scalar_one())
    if command.cursor:
        query = query.where(li.id > decode_cursor(command.cursor, tuple[str])[0])
    rows = [(row[0], row[1]) for row in tx.execute(query.order_by(li.id).limit(command.limit + 1))]
    page = cut(rows, command.limit, lambda row: row[0])  # type: ignore[type-var]  # pairs, cut like Structs
    found = records.find_ids(tx, ArtifactVersion, actor, [row[1] for row in page.items])
    return Hits(hold(tx, actor, [found[row[1]] for row in page.items]), page.next, total)


class Users(Command, frozen=True, kw_only=True):
    """Runs that read a version."""

    id: Id


def users(tx: Tx, actor: Actor, command: Users) -> list[Seen]:
    """Live runs that read it, oldest first."""
    require(actor, "run.read")
    li, c = t.links.c, t.items.c
    mine = select(li.source_id).where(
        li.organization_id == actor.organization_id, li.target_id == command.id, li.type == USED
    )
    query = records.statement(Run, actor).where(c.id.in_(mine), c.state.in_(LIVE)).order_by(c.id).limit(MOST_USERS)
    runs = records.fetch(tx, Run, query)
    projects = records.find_ids(tx, Project, actor, sorted({run.parent_id for run in runs}))
    return [Seen(run, projects[run.parent_id], {}) for run in runs]

"""Importing objects from another server, as they were: ids, times, versions, rows and histories.

Nothing of an import is seen before all of it is there. See `labkeep.storage.imports` for how.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from functools import partial
from itertools import groupby
from typing import Any

import msgspec
from msgspec.structs import replace
from sqlalchemy import update

from labkeep.core.access import Actor, require
from labkeep.core.commands import Outcome, PurgeDeletion, RestoreDeletion
from labkeep.core.commands_transfer import (
    FinishImport,
    GetImport,
    Import,
    Imported,
    ImportedFile,
    ImportedObject,
    ImportedVersion,
    ImportHistory,
    ImportPart,
    StartImport,
    imported_id,
)
from labkeep.core.entities import KIND_ENTITY, Deletion, File, Item, Project, Version
from labkeep.core.errors import AlreadyExists, Corrupt, Invalid, Stale
from labkeep.core.lifecycle import BUSY, Kind, State, Status
from labkeep.operations import deletions, documents, files, rows
from labkeep.operations.projects import check_rules, resolve
from labkeep.operations.purges import system
from labkeep.storage import data_keys, histories, jobs, records
from labkeep.storage import imports as store
from labkeep.storage import tables as t
from labkeep.storage.histories import Owner, Taken
from labkeep.storage.imports import Options
from labkeep.storage.metrics import UNSUMMARISED, Place
from labkeep.storage.reductions import summarise
from labkeep.storage.series import Part
from labkeep.storage.transaction import Tx

FORGOTTEN_AFTER = timedelta(days=7)
"""Imports that nobody goes on with go to the trash, and from there as everything does."""

_MAPPED = ("id", "parent_id", "project_id", "base_run_id", "document_id", "run_id")


def start(tx: Tx, actor: Actor, command: StartImport) -> Import:
    """Begin an import. AlreadyExists, before anything is sent, when the name for its project is taken."""
    require(actor, "import.write")
    if command.into is not None and command.name is not None:
        raise Invalid("an import goes either into a project that is there, or into one with a new name", path="into")
    into = resolve(tx, actor, command.into).id if command.into is not None else None
    options = Options(archive=command.archive, remap=command.remap, into=into, name=command.name)
    deletion = Deletion(
        id=tx.new_id(),
        organization_id=actor.organization_id,
        workspace_id=actor.workspace_id,
        project_id=into,
        state=store.IMPORTING,
        actor=actor.name,
        key_id=actor.key_id,
        client=actor.client,
        reason=command.reason or f"import of {command.archive}",
        plan_hash=f"import {command.archive}",
        counts={},
        bytes=0,
        created_at=tx.now,
        restorable_until=tx.now + timedelta(days=tx.grace_days),
    )
    store.begin(tx, deletion, options)
    tx.audit(actor, "import.started", deletion.id, archive=command.archive)
    return store.shown(deletion, options)


def get(tx: Tx, actor: Actor, command: GetImport) -> Import:
    """An import that is under way, and how far it is."""
    require(actor, "import.write")
    return store.shown(*store.get(tx, actor, command.id))


def add_part(tx: Tx, actor: Actor, command: ImportPart) -> Import:
    """Take the next part. A part that was taken before is left out; Stale for one that comes too early."""
    require(actor, "import.write")
    deletion, options = store.get(tx, actor, command.id, lock=True)
    if command.number < options.parts:
        return store.shown(deletion, options)
    if command.number > options.parts:
        raise Stale(f"part {command.number} came before part {options.parts}: send that one first", parts=options.parts)
    counts = Counter(options.counts)
    for kind, objects in groupby(command.objects, key=lambda one: one.kind):
        counts[str(kind)] += _add_objects(tx, actor, deletion, options, kind, list(objects))
    mapped = _mapping(deletion, options)
    owners = _owners(tx, deletion, command, mapped)
    _add_versions(tx, actor, owners, command.document_versions, mapped)
    _add_files(tx, actor, owners, command.file_entries, mapped)
    for part in command.row_states:
        rows.put_back(tx, _owner(owners, mapped(part.owner_id), rows.OWNERS), part.states)
    options = replace(options, parts=options.parts + 1, counts={kind: n for kind, n in counts.items() if n})
    store.note(tx, deletion, options)
    return store.shown(deletion, options)


# --- ids ----------------------------------------------------------------------------------------------------------------


def _mapping(deletion: Deletion, options: Options) -> Callable[[str], str]:
    """Ids in the archive → ids here. New ids tell the same time as the old ones, so that orders stay."""
    return partial(imported_id, deletion.id) if options.remap else str


# --- objects ------------------------------------------------------------------------------------------------------------


def _add_objects(
    tx: Tx, actor: Actor, deletion: Deletion, options: Options, kind: Kind, objects: Sequence[ImportedObject]
) -> int:
    if kind == Kind.project and options.into is not None:
        return 0  # what was in it goes into another one
    mapped = _mapping(deletion, options)
    made = [_made(tx, actor, deletion, options, mapped, one) for one in objects]
    known = store.taken(tx, actor, [item.id for item in made])
    if known:
        raise AlreadyExists(
            f"{kind} {known[0]} is here already: import with new ids (remap), or purge what is here first",
            ids=sorted(known)[:100],
        )
    _check_homes(tx, deletion, options, made)
    store.add_objects(tx, deletion, made, {item.id: _state(one) for item, one in zip(made, objects, strict=True)})
    for one in made:
        if isinstance(one, Project):
            data_keys.turn(tx, one.organization_id, one.id, {}, one.settings)
    return len(made)


def _state(one: ImportedObject) -> State:
    return one.previous_state or one.state


def _made(
    tx: Tx, actor: Actor, deletion: Deletion, options: Options, mapped: Callable[[str], str], one: ImportedObject
) -> Item:
    entity = KIND_ENTITY[one.kind]
    given = {name: getattr(one, name) for name in one.__struct_fields__ if name in entity.__struct_fields__}
    for name in _MAPPED:
        if given.get(name) is not None:
            given[name] = mapped(given[name])
    given |= {
        "organization_id": actor.organization_id,
        "workspace_id": actor.workspace_id,
        "state": State.trashed,
        "deletion_id": deletion.id,
        "version": 1,
        "bytes": 0,
    }
    if one.kind == Kind.project:
        given |= {"parent_id": actor.workspace_id, "project_id": None}
        given |= {"name": options.name, "handle": options.name} if options.name else {"handle": one.name}
        check_rules(actor, {}, one.settings)
    elif options.into is not None:
        home = mapped(one.project_id or "")
        given["parent_id"] = options.into if given["parent_id"] == home else given["parent_id"]
        given["project_id"] = options.into
    return _of_its_kind(tx, entity, given, one)


def _of_its_kind(tx: Tx, entity: type[Item], given: dict[str, Any], one: ImportedObject) -> Item:
    if one.kind == Kind.run:
        status = _status(one.status)
        # Whatever executed it does not reach this server.
        ended = {"status": Status.stopped, "finished_at": one.finished_at or tx.now} if status in BUSY else {}
        given |= {"status": status, "heartbeat_at": None, **ended}
    elif one.kind == Kind.document and one.status == "running":
        given["status"] = "stopped"
    return entity(**given)


def _status(text: str) -> Status:
    try:
        return Status(text)
    except ValueError:
        raise Invalid(f"{text[:40]!r} is not a status of a run", path="objects") from None


def _check_homes(tx: Tx, deletion: Deletion, options: Options, made: Sequence[Item]) -> None:
    """Everything lies in what came before it, or in the project that was named."""
    homes = {home for item in made for home in (item.parent_id, item.project_id) if home is not None}
    inside = {*store.members(tx, deletion, sorted(homes)), deletion.workspace_id, options.into}
    for item in made:
        outside = {item.parent_id, item.project_id or deletion.workspace_id} - inside
        if outside:
            raise Invalid(
                f"{item.kind} {item.name!r} lies in {min(outside)}, which is not part of this import and comes "
                "not before it",
                path="objects",
            )


# --- what they own ------------------------------------------------------------------------------------------------------


def _owners(tx: Tx, deletion: Deletion, command: ImportPart, mapped: Callable[[str], str]) -> dict[str, Item]:
    ids = [one.document_id for one in command.document_versions]
    ids += [one.owner_id for one in command.file_entries]
    ids += [one.owner_id for one in command.row_states]
    return store.members(tx, deletion, [mapped(id) for id in ids])


def _owner(owners: dict[str, Item], id: str, kinds: Iterable[Kind]) -> Item:
    found = owners.get(id)
    if found is None or found.kind not in kinds:
        raise Invalid(f"{id} is not part of this import, or cannot have this", path="owner_id")
    return found


def _add_versions(
    tx: Tx, actor: Actor, owners: dict[str, Item], versions: Sequence[ImportedVersion], mapped: Callable[[str], str]
) -> None:
    made = [
        Version(
            id=mapped(one.id),
            organization_id=actor.organization_id,
            document_id=_owner(owners, mapped(one.document_id), (Kind.document,)).id,
            number=one.number,
            digest=documents.digest_of(one.body),
            body=one.body,
            parent=one.parent,
            message=one.message,
            author=one.author,
            created_at=one.created_at,
        )
        for one in versions
    ]
    for version in made:
        documents.put_version(tx, owners[version.document_id].project_id, version)


def _add_files(
    tx: Tx, actor: Actor, owners: dict[str, Item], given: Sequence[ImportedFile], mapped: Callable[[str], str]
) -> None:
    made = [
        File(
            owner_id=_owner(owners, mapped(one.owner_id), (Kind.run, Kind.document, Kind.artifact_version)).id,
            path=files.clean_path(one.path),
            digest=one.digest,
            size=one.size,
            media_type=files.clean_media_type(one.media_type),
            created_at=one.created_at,
        )
        for one in given
    ]
    by_project: dict[str | None, list[File]] = {}
    for file in made:
        by_project.setdefault(owners[file.owner_id].project_id, []).append(file)
    for project_id, some in by_project.items():
        store.add_files(tx, actor, project_id, some)
    for file in made:
        records.add_bytes(tx, file.owner_id, actor.organization_id, file.size)


# --- histories ----------------------------------------------------------------------------------------------------------


class HistoryPart(msgspec.Struct, frozen=True):
    """Rows of an imported run, read from a Parquet file."""

    where: ImportHistory
    parts: list[Part]


def read_history(where: ImportHistory, file: bytes) -> HistoryPart:
    """The rows in a Parquet file. Pure: the part that takes time. Invalid when it is none."""
    # Here, because it brings in pyarrow (40 MB), which a server of short histories never needs.
    from labkeep.storage import segments

    try:
        return HistoryPart(where, segments.read(file))
    except Corrupt as error:  # theirs, not ours
        raise Invalid(f"the body is no history as an export has it: {error.message}", path="$") from None


def add_history(tx: Tx, actor: Actor, command: HistoryPart) -> Import:
    """Store rows of a run. The same rows again change nothing."""
    require(actor, "import.write")
    where = command.where
    deletion, options = store.get(tx, actor, where.id, lock=True)
    id = _mapping(deletion, options)(where.run_id)
    run = _owner(store.members(tx, deletion, [id]), id, (Kind.run,))
    owner = Owner(run.organization_id, run.workspace_id, run.id, run.project_id, Status.running)
    place = Place(run.organization_id, run.id, where.stream)
    for first, table in command.parts:
        summaries = {} if where.stream in UNSUMMARISED else summarise(table)
        batch = histories.Prepared(run.id, where.stream, first, table, list(histories.pack(table)), summaries)
        # What `take` would have accounted for already.
        records.add_bytes(tx, run.id, run.organization_id, batch.bytes)
        histories.append(tx, Taken(owner, histories.standing(tx, place)), batch)
    return store.shown(deletion, options)


# --- the end ------------------------------------------------------------------------------------------------------------


def finish(tx: Tx, actor: Actor, command: FinishImport) -> Imported:
    """Show all of it at once. AlreadyExists, with names that are free, where a name is taken: nothing changes then."""
    require(actor, "import.write")
    deletion, options = store.get(tx, actor, command.id, lock=True)
    mapped = _mapping(deletion, options)
    dangling = store.clear_dangling(tx, deletion)
    store.close(tx, deletion, options)
    names = {mapped(id): name for id, name in command.names.items()}
    outcome = _show(tx, actor, deletion, names)
    for run_id, stream in store.long_streams(tx, deletion, tx.seal_min_rows):
        jobs.enqueue(tx, actor, "seal", {"run_id": run_id, "stream": stream}, dedupe=f"seal {run_id} {stream}")
    tx.audit(actor, "import.finished", deletion.id, count=sum(options.counts.values()), archive=options.archive)
    assert outcome.job_id is None
    return Imported(counts=options.counts, dangling=dangling)


def _show(tx: Tx, actor: Actor, deletion: Deletion, names: dict[str, str]) -> Outcome:
    asked = RestoreDeletion(id=deletion.id, names=names, reason=deletion.reason, background=False)
    return deletions.restore(tx, actor, asked)


def give_up(tx: Tx, actor: Actor, command: GetImport) -> Outcome:
    """Remove what was imported so far, for good."""
    require(actor, "import.write")
    deletion, options = store.get(tx, actor, command.id, lock=True)
    store.close(tx, deletion, options)
    tx.audit(actor, "import.given_up", deletion.id, archive=options.archive)
    # Whoever may import may also not import: no permission to purge is asked for what nobody has seen.
    mine = system(actor.organization_id, actor.workspace_id, actor.name)
    return deletions.purge(tx, mine, PurgeDeletion(id=deletion.id, reason=deletion.reason))


def forget(tx: Tx, _actor: Actor, age: timedelta) -> None:
    """Imports that nobody went on with lie in the trash from now on, for as long as their grace period says."""
    d = t.deletions.c
    old = (d.state == store.IMPORTING, d.created_at < tx.now - age)
    tx.execute(update(t.deletions).where(*old).values(state="trashed"))

"""What moves objects from one server to another: reading everything that they are, and making them again elsewhere."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from labkeep.core.commands import Command, Count, Digest, FilePath, Key, Moment, Name, Paged, Ref, RowId, Tags, Text
from labkeep.core.entities import Json
from labkeep.core.ids import Id
from labkeep.core.lifecycle import Kind, State

# --- reading ------------------------------------------------------------------------------------------------------------


class ReadStates(Paged, frozen=True, kw_only=True):
    """All states that the rows of a run or document ever had, in order of row and transaction."""

    id: Ref
    include: str = ""


class RowState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One state of one row: current from transaction ``xact`` until ``next_xact``, or still."""

    id: RowId
    root_id: RowId
    xact: Count
    next_xact: Count | None = None
    position: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    deleted: bool = False
    created_at: Moment
    data: Json = {}


class ListStreams(Command, frozen=True, kw_only=True):
    """The streams of a run."""

    id: Ref
    include: str = ""


class Stream(msgspec.Struct, frozen=True):
    """One stream of a run and its number of rows."""

    stream: str
    rows: int


class ReadSegment(Command, frozen=True, kw_only=True):
    """Rows of a stream as one Parquet file, from row ``offset`` on, at most ``limit`` of them."""

    id: Ref
    stream: Key = "history"
    offset: Count = 0
    limit: Annotated[int, Meta(ge=1, le=100_000)] = 20_000
    include: str = ""


def imported_id(import_id: str, id: str) -> str:
    """The id that an object gets when an import gives new ones: always the same, and telling the same time."""
    digest = hashlib.sha256(f"{import_id} {id}".encode()).hexdigest()
    return f"{id[:14]}7{digest[:3]}-{'89ab'[int(digest[3], 16) & 3]}{digest[4:7]}-{digest[7:19]}"


# --- importing ----------------------------------------------------------------------------------------------------------


class StartImport(Command, frozen=True, kw_only=True):
    """Begin an import. ``remap`` gives every object a new id; ``into`` puts what was in a project into this one."""

    archive: Digest
    remap: bool = False
    into: Ref | None = None
    name: Name | None = None
    """The name of the project, when the archive's own is taken."""
    reason: Text = ""


class Import(msgspec.Struct, frozen=True, kw_only=True):
    """An import under way. Nothing of it is seen before it is finished. ``id`` is also that of the deletion that holds it."""

    id: str
    state: str
    archive: str
    remap: bool
    parts: int
    """Parts that were taken: the next one has this number."""
    counts: dict[str, int]
    created_at: datetime


class ImportedObject(msgspec.Struct, frozen=True, kw_only=True):
    """One project, run, document, artifact or artifact version, as reading it gave it."""

    id: Id
    kind: Kind
    parent_id: Id
    project_id: Id | None = None
    type: Key = ""
    name: Name
    handle: Name | None = None
    description: Text = ""
    tags: Tags = ()
    metadata: Json = {}
    extra: Json = {}
    dialect: Key = ""
    state: State = State.active
    previous_state: State | None = None
    locked: bool = False
    created_by: Key = ""
    created_at: Moment
    updated_at: Moment
    # Projects
    settings: Json = {}
    # Runs, and documents for the status
    status: Key = ""
    config: Json = {}
    summary: Json = {}
    notes: Text = ""
    group: Key = ""
    job_type: Key = ""
    base_run_id: Id | None = None
    document_id: Id | None = None
    exit_code: Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)] | None = None
    started_at: Moment | None = None
    finished_at: Moment | None = None
    # Documents and artifacts
    latest: Count = 0
    # Artifact versions
    number: Count = 0
    digest: Key = ""
    run_id: Id | None = None
    aliases: Tags = ()


class ImportedVersion(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a document."""

    id: Id
    document_id: Id
    number: Annotated[int, Meta(ge=1, le=2**53)]
    body: Json
    parent: Count | None = None
    message: Text = ""
    author: Key = ""
    created_at: Moment


class ImportedFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file; its bytes were uploaded before."""

    owner_id: Id
    path: FilePath
    digest: Digest
    size: Count
    media_type: Key = ""
    created_at: Moment


class ImportedRows(msgspec.Struct, frozen=True, kw_only=True):
    """States of rows of one run or document, in the order in which they were read."""

    owner_id: Id
    states: Annotated[list[RowState], Meta(max_length=10_000)]


class ImportPart(Command, frozen=True, kw_only=True):
    """One part of an import. Parts are numbered 0, 1, 2 …; one that was taken before is not taken again."""

    id: Id
    number: Count
    objects: Annotated[list[ImportedObject], Meta(max_length=10_000)] = []
    document_versions: Annotated[list[ImportedVersion], Meta(max_length=10_000)] = []
    file_entries: Annotated[list[ImportedFile], Meta(max_length=10_000)] = []
    row_states: Annotated[list[ImportedRows], Meta(max_length=1_000)] = []


class GetImport(Command, frozen=True, kw_only=True):
    """One import by id."""

    id: Id


class ImportHistory(Command, frozen=True, kw_only=True):
    """Where rows of an imported run go; the body is a Parquet file as reading the history gave it."""

    id: Id
    run_id: Id
    stream: Key = "history"


class FinishImport(Command, frozen=True, kw_only=True):
    """Show what was imported. ``names`` (id as in the archive → name) for what cannot have its own name here."""

    id: Id
    names: dict[str, Name] = {}


class Imported(msgspec.Struct, frozen=True, kw_only=True):
    """What an import brought."""

    counts: dict[str, int]
    dangling: int
    """References to objects that were not in the archive and are not here: they were cleared."""

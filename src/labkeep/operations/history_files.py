"""Sealed histories as plain Parquet files, for clients that read those instead of asking for pages.

Such a client keeps what it has read under the number of the file and never asks again. So there are files only for
histories that do not change any more: the run has ended, all of it is sealed, and nothing of it was written over.

Files are made when they are asked for, and kept in memory for a minute, because clients read them in many ranges;
nothing of them is stored. Whether the run may be read is looked up each time.
"""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import select

from labkeep.core.access import Actor, require
from labkeep.core.commands import Command, Digest, Ref
from labkeep.core.entities import Run
from labkeep.core.errors import NotFound
from labkeep.core.lifecycle import ENDED, Kind, State
from labkeep.operations import Store
from labkeep.operations.history import segment_reader
from labkeep.storage import masks, records
from labkeep.storage import tables as t
from labkeep.storage.blobs import key_of_name
from labkeep.storage.histories import Segment, segments_of, standing
from labkeep.storage.metrics import Place
from labkeep.storage.recent import RECENT
from labkeep.storage.sealing import REWRITTEN
from labkeep.storage.series import Part
from labkeep.storage.transaction import Tx

if TYPE_CHECKING:
    from labkeep.storage.plain_parquet import Plain

STREAM = "history"

KNOWN = 4096
"""Segments of which it is remembered whether they can be told plainly."""


class ListFiles(Command, frozen=True, kw_only=True):
    """The files of a run's history."""

    id: Ref


class GetHistoryFile(Command, frozen=True, kw_only=True):
    """One of them, by the digest of its segment."""

    id: Ref
    digest: Digest


class _Settled(NamedTuple):
    """The segments of a history that does not change any more, and how many rows it has."""

    segments: list[Segment]
    rows: int


def listed(store: Store, actor: Actor, command: ListFiles) -> list[Segment]:
    """The segments that are files, which together are the whole history; none when it cannot be told in files."""
    settled = store.database.read(_settled, actor, command)
    facts: list[Plain] = []
    end = 0
    for segment in settled.segments:
        # What is encrypted is not named by its digest, and is not kept in memory for a minute either.
        told = segment.first_row == end and key_of_name(segment.digest) is None
        plain = _plain(store, actor, segment) if told else None
        if plain is None or (facts and (plain.keys != facts[0].keys or plain.first_step <= facts[-1].last_step)):
            return []
        facts.append(plain)
        end = segment.end
    return settled.segments if end == settled.rows else []


def read(store: Store, actor: Actor, command: GetHistoryFile) -> bytes:
    """The content of a file. NotFound when it is none of this run's, Gone for a run in the trash. Blocks: for threads."""
    from labkeep.storage import plain_parquet  # pyarrow is large: only who serves such files needs it

    segments = store.database.read(_settled, actor, ListFiles(id=command.id)).segments
    segment = next((each for each in segments if each.digest == command.digest), None)
    if segment is None:
        raise NotFound("there is no such file of this run's history any more")

    def make() -> bytes:
        return plain_parquet.write(_parts(store, actor, segment)[0][1])

    return RECENT.get(actor.organization_id, ("plain", segment.digest), make, len)


def _settled(tx: Tx, actor: Actor, command: ListFiles) -> _Settled:
    require(actor, "run.read")
    run = records.get(tx, Run, actor, command.id)
    place = Place(run.organization_id, run.id, STREAM)
    now = standing(tx, place)
    changed = run.extra.get(REWRITTEN) or _is_reused(tx, run) or masks.ever_hid(tx, place)
    if run.status not in ENDED or now.unsealed or changed:
        return _Settled([], 0)
    return _Settled(segments_of(tx, place), now.rows)


def _is_reused(tx: Tx, run: Run) -> bool:
    """Whether an earlier run of that handle is in the trash: a client may have kept files of that one."""
    c = t.items.c
    same = (c.organization_id == run.organization_id, c.project_id == run.project_id, c.kind == Kind.run)
    query = select(c.id).where(*same, c.handle == run.handle, c.state == State.trashed).limit(1)
    return run.handle is not None and tx.execute(query).first() is not None


def _parts(store: Store, actor: Actor, segment: Segment) -> list[Part]:
    return segment_reader(store.blobs, actor.organization_id)(segment, None, None, None)


def _plain(store: Store, actor: Actor, segment: Segment) -> Plain | None:
    from labkeep.storage import plain_parquet

    with _lock:
        if segment.digest in _known:
            return _known[segment.digest]
    found = plain_parquet.describe(_parts(store, actor, segment))
    with _lock:
        _known[segment.digest] = found
        if len(_known) > KNOWN:
            _known.popitem(last=False)
    return found


_known: OrderedDict[str, Plain | None] = OrderedDict()
"""What is known of segments, by digest: they never change."""
_lock = Lock()

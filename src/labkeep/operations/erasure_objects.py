"""Looking for a person in one object, and putting the mark in its place: fields, versions, rows, streams and files.

`look` reads; `erase` does the same reading and changes what it finds, each effect a transaction of its own that may be
done again. So a job that was killed goes on with the object at which it stood.
"""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import delete, select, update

from labkeep.core.access import Actor
from labkeep.core.commands import Apply, Selection
from labkeep.core.deletion import Origin
from labkeep.core.entities import Item
from labkeep.core.erasures import Erasure, Matcher
from labkeep.core.errors import Conflict, Corrupt, Stale
from labkeep.core.faults import reach
from labkeep.core.lifecycle import LIVE, Kind, Verb
from labkeep.operations import Store, deletions, files, holds, rules
from labkeep.operations.documents import digest_of
from labkeep.operations.history import copy, segment_reader
from labkeep.storage import blob_refs, chunks, erasures, histories, purge, records, stream_purges, subjects
from labkeep.storage import removals as removal_records
from labkeep.storage import tables as t
from labkeep.storage.data_keys import place_of_body
from labkeep.storage.erasures import TextFile
from labkeep.storage.histories import Chunk, Segment
from labkeep.storage.metrics import Place
from labkeep.storage.series import Part, Series, Table
from labkeep.storage.stream_purges import Replacement, Rewrite
from labkeep.storage.transaction import Tx

CHUNKS = 16
"""Chunks that are read at once."""

TRIES = 5

REPLACED_BYTES = 32 * 2**20
"""Text files up to this size are replaced by redacted ones; larger ones are removed."""

TEXT_TYPES = (
    "text/",
    "application/json",
    "application/x-ndjson",
    "application/xml",
    "application/yaml",
    "application/x-yaml",
)
TEXT_ENDINGS = (
    ".txt",
    ".log",
    ".md",
    ".csv",
    ".tsv",
    ".json",
    ".jsonl",
    ".yaml",
    ".yml",
    ".xml",
    ".html",
    ".toml",
    ".py",
)


class Job(NamedTuple):
    """What is asked for, and of which object. ``looking``: nothing is changed."""

    erasure: Erasure
    item_id: str
    looking: bool

    @property
    def matcher(self) -> Matcher:
        """Who is looked for."""
        return Matcher(self.erasure.subject)


class Result(NamedTuple):
    """How often each part of an object speaks of the person, and why it must stay so, if it must."""

    kind: str
    counts: Counter[str]
    held: str = ""
    blocked: str = ""
    whole: bool = False
    """Whether it is to go as a whole: nothing has happened to it yet."""
    deletion_id: str = ""
    """The deletion with which it went as a whole."""


# --- one object -------------------------------------------------------------------------------------------------------


def process(store: Store, actor: Actor, job: Job) -> Result:
    """Look through one object, and unless ``looking`` erase what was found."""
    found = _pass(store, actor, job._replace(looking=True))
    if job.looking or not found.counts:
        return found
    guard = store.database.write(protected, actor, job)
    if guard is not None:
        return found._replace(
            held=guard[1] if guard[0] == "held" else "", blocked=guard[1] if guard[0] != "held" else ""
        )
    if found.kind in job.erasure.report.get("whole", ()):
        return found._replace(whole=True)
    _pass(store, actor, job)
    left = +_pass(store, actor, job._replace(looking=True)).counts
    if found.kind == Kind.artifact_version and set(left) == {"files"}:
        return found._replace(blocked="the files of an artifact version cannot be rewritten: purge the version")
    if left:
        raise Corrupt(f"erasing from {found.kind} {job.item_id} left something behind: {dict(left)}")
    return found


def remove_whole(tx: Tx, actor: Actor, erasure: Erasure, id: str) -> str:
    """Trash one object and have it purged, on the word of the request; answers the deletion."""
    item = records.get(tx, Item, actor, id, states=erasures.READABLE)
    reason, ticket = f"erasure request {erasure.id}", erasure.ticket
    for verb in (Verb.trash, Verb.purge) if item.state in LIVE else (Verb.purge,):
        chosen = Selection(ids=[item.id])
        asked = Apply(verb=str(verb), selection=chosen, background=False, reason=reason, ticket=ticket)
        done = deletions.apply(tx, actor, asked, asker=Origin.erasure)
        if done.waits_for:
            raise Conflict(f"waits for {done.waits_for}")
    return str(records.get(tx, Item, actor, item.id, states=erasures.READABLE).deletion_id)


def _pass(store: Store, actor: Actor, job: Job) -> Result:
    operate = store.database.read if job.looking else store.database.write
    kind, counts = operate(own_parts, actor, job)
    counts["rows"] += _rows(store, actor, job)
    if kind == Kind.run and not job.erasure.field:
        counts["history"] += _streams(store, actor, job)
    if kind in (Kind.run, Kind.document, Kind.artifact_version) and not job.erasure.field:
        counts["files"] += _files(store, actor, job, kind)
    return Result(str(kind), +counts)


def protected(tx: Tx, actor: Actor, job: Job) -> tuple[str, str] | None:
    """Why an object must stay as it is: (held or blocked, why). Holds win, and so do the minimum keep and locks."""
    item = records.get(tx, Item, actor, job.item_id, states=erasures.READABLE, lock=True)
    covering = holds.holding(tx, actor, [item.id]).get(item.id)
    if covering:
        return "held", f"hold {covering[0].id}"
    if item.locked:
        return "blocked", "it is locked"
    project_id = item.project_id or item.id
    wanted = rules.of_projects(tx, actor, [project_id]).get(project_id) or rules.of_workspace(tx, actor)
    kept_until = item.created_at + timedelta(days=wanted.minimum_keep_days)
    return ("blocked", f"it must be kept until {kept_until.isoformat()}") if tx.now < kept_until else None


def own_parts(tx: Tx, actor: Actor, job: Job) -> tuple[Kind, Counter[str]]:
    """The fields of the object, its versions, the summaries of its streams and its removals."""
    item = erasures.load(tx, actor, job.item_id, lock=not job.looking)
    counts: Counter[str] = Counter()
    if job.erasure.field:
        return item.kind, counts
    matcher = job.matcher
    if job.looking:
        counts["fields"] += erasures.count_own(item, matcher)
    else:
        counts["fields"] += erasures.redact_own(tx, item, matcher)
    for version in erasures.match_versions(tx, item, matcher, place_of_body):
        counts["versions"] += 1
        if not job.looking:
            digest, place = digest_of(version.body), place_of_body(version.number)
            erasures.store_version(tx, item, version, digest, place)
            tx.audit(actor, "document.version_erased", item.id, number=version.number, digest=digest)
    counts["series"] += erasures.redact_series(tx, item, matcher, looking=job.looking)
    counts["removals"] += erasures.redact_removals(tx, item, matcher, looking=job.looking)
    return item.kind, counts


# --- rows -------------------------------------------------------------------------------------------------------------


class RowsAt(NamedTuple):
    """Where to go on among the states of rows."""

    job: Job
    after: tuple[str, int] | None


class RowsFound(NamedTuple):
    """Rows to rewrite."""

    job: Job
    ids: tuple[str, ...]


def match_rows(tx: Tx, actor: Actor, at: RowsAt) -> erasures.Matched:
    """The next rows that speak of the person."""
    owner = records.get(tx, Item, actor, at.job.item_id, states=erasures.READABLE)
    if at.job.erasure.field:
        digest = at.job.erasure.subject_digest
        ids = subjects.rows_of(tx, actor.organization_id, digest, owner.id)
        return erasures.Matched(tuple(ids), len(ids), None)
    return erasures.match_rows(tx, owner, at.job.matcher, at.after)


def rewrite_rows(tx: Tx, actor: Actor, found: RowsFound) -> int:
    """Redact or delete rows, with all of their states."""
    owner = erasures.load(tx, actor, found.job.item_id, lock=True)
    erasure = found.job.erasure
    return erasures.rewrite_rows(tx, owner, found.ids, found.job.matcher, delete=erasure.action == "delete")


def _rows(store: Store, actor: Actor, job: Job) -> int:
    total, after = 0, None
    while True:
        found = store.database.read(match_rows, actor, RowsAt(job, after))
        total += len(found.ids)
        if found.ids and not job.looking:
            store.database.write(rewrite_rows, actor, RowsFound(job, found.ids))
            reach("erasure.rows")
        after = found.after
        if after is None:
            return total


# --- streams ----------------------------------------------------------------------------------------------------------


class At(NamedTuple):
    """Where to go on among the chunks of a stream."""

    place: Place
    first_row: int


def streams_of(tx: Tx, actor: Actor, item_id: str) -> list[str]:
    """The streams of a run."""
    s = t.streams.c
    return [
        row[0]
        for row in tx.execute(
            select(s.stream).where(s.organization_id == actor.organization_id, s.run_id == item_id).order_by(s.stream)
        )
    ]


def read_chunks(tx: Tx, _actor: Actor, at: At) -> list[Chunk]:
    """The next chunks."""
    return stream_purges.next_chunks(tx, at.place, at.first_row, CHUNKS)


def read_segments(tx: Tx, _actor: Actor, place: Place) -> list[Segment]:
    """The segments of a stream."""
    return histories.segments_of(tx, place)


def swap_chunks(tx: Tx, _actor: Actor, rewrites: list[Rewrite]) -> bool:
    """Exchange chunks; False when they have changed."""
    return stream_purges.swap_chunks(tx, rewrites)


def swap_segment(tx: Tx, actor: Actor, replacement: Replacement) -> bool:
    """Exchange a segment; False when it has changed."""
    return stream_purges.swap_segment(tx, actor, replacement)


def _streams(store: Store, actor: Actor, job: Job) -> int:
    total = 0
    for stream in store.database.read(streams_of, actor, job.item_id):
        place = Place(actor.organization_id, job.item_id, stream)
        total += _chunks(store, actor, job, place)
        for segment in store.database.read(read_segments, actor, place):
            total += _segment(store, actor, job, place, segment)
    return total


def _chunks(store: Store, actor: Actor, job: Job, place: Place) -> int:
    total = at = failures = 0
    while found := store.database.read(read_chunks, actor, At(place, at)):
        rewrites: list[Rewrite] = []
        for chunk in found:
            table, count = redacted(chunks.unpack(chunk.data), job.matcher)
            total += count
            if count:
                rewrites.append(Rewrite(place, chunk, stream_purges.pieces([(chunk.first_row, table)])))
        if rewrites and not job.looking:
            if not store.database.write(swap_chunks, actor, rewrites):
                failures += 1
                if failures == TRIES:
                    raise _unsteady(place)
                continue
            reach("erasure.chunks")
        at = found[-1].end
    return total


def _unsteady(place: Place) -> Stale:
    return Stale(f"stream {place.stream!r} of run {place.run_id} changes while it is searched: later")


def _segment(store: Store, actor: Actor, job: Job, place: Place, segment: Segment) -> int:
    parts = segment_reader(store.blobs, actor.organization_id)(segment, None, None, None)
    made = [(first, *redacted(table, job.matcher)) for first, table in parts]
    total = sum(count for _, _, count in made)
    if total and not job.looking:
        new = _write(store, actor, place.run_id, [(first, table) for first, table, _ in made])
        if not store.database.write(swap_segment, actor, Replacement(job.erasure.id, place, segment, new)):
            raise _unsteady(place)
        reach("erasure.segment")
    return total


def _write(store: Store, actor: Actor, run_id: str, parts: list[Part]) -> Segment:
    from labkeep.storage import segments  # pyarrow is large

    key = store.database.read(files.plan, actor, files.UploadTo(id=run_id))
    with BytesIO() as file:
        info = segments.write(file, lambda: iter(parts))
        with files.begin(store, actor, key) as upload:
            copy(file, upload.write)
            stored = upload.finish()
    name = files.keep(store, actor, stored)
    return Segment(info.first_offset, info.end_offset - info.first_offset, name, stored.size)


def redacted(table: Table, matcher: Matcher) -> tuple[Table, int]:
    """A table with the mark in its texts, and how often it spoke of the person. Numbers of metrics are measurements."""
    columns: dict[str, Series] = {}
    total = 0
    for key, series in table.columns.items():
        count = sum(map(matcher.count, series.values)) if series.type == "json" else 0
        total += count
        if count:
            values = np.fromiter(map(matcher.redact, series.values), dtype=object, count=len(series.values))
            series = Series("json", series.at, values)
        columns[key] = series
    return (Table(len(table), columns), total) if total else (table, 0)


# --- files ------------------------------------------------------------------------------------------------------------


def list_files(tx: Tx, actor: Actor, item_id: str) -> list[TextFile]:
    """Files of the object."""
    return erasures.files_of(tx, records.get(tx, Item, actor, item_id, states=erasures.READABLE))


def _files(store: Store, actor: Actor, job: Job, kind: Kind) -> int:
    total = 0
    for file in store.database.read(list_files, actor, job.item_id):
        in_path = job.matcher.count(file.path)
        inside = _is_text(file) and _speaks(store, actor, file, job.matcher)
        if not in_path and not inside:
            continue
        total += 1
        if not job.looking and kind != Kind.artifact_version:
            _erase_file(store, actor, job, file, inside=inside)
            reach("erasure.file")
    return total


def _is_text(file: TextFile) -> bool:
    return file.media_type.startswith(TEXT_TYPES) or file.path.lower().endswith(TEXT_ENDINGS)


def _speaks(store: Store, actor: Actor, file: TextFile, matcher: Matcher) -> bool:
    """Whether a text speaks of the person; read piece by piece, with enough of the last piece to see across the cut."""
    keep, rest = 4 * len(matcher.subject) + 8, b""
    for piece in store.blobs.read(actor.organization_id, file.blob):
        seen = rest + piece
        if matcher.count(seen.decode(errors="ignore")):
            return True
        rest = seen[-keep:]
    return False


class FileChange(NamedTuple):
    """A file and what comes in its place: another blob under a path; nothing when there is no path."""

    job: Job
    file: TextFile
    path: str = ""
    blob: str = ""
    content: str | None = None
    size: int = 0


def _erase_file(store: Store, actor: Actor, job: Job, file: TextFile, *, inside: bool) -> None:
    removes = job.erasure.report.get("files") == "remove" or job.erasure.action == "delete" or file.removal_id
    path = str(job.matcher.redact(file.path))
    change = FileChange(job, file, path, file.blob)
    if inside and (removes or file.size > REPLACED_BYTES):
        change = FileChange(job, file)
    elif inside:
        change = _replacement(store, actor, change)
    elif removes:
        change = FileChange(job, file)
    store.database.write(change_file, actor, change)


def _replacement(store: Store, actor: Actor, change: FileChange) -> FileChange:
    old = store.blobs.read_all(actor.organization_id, change.file.blob)
    try:
        new = str(change.job.matcher.redact(old.decode())).encode()
    except UnicodeDecodeError:
        return FileChange(change.job, change.file)  # not the text that it says it is
    key = store.database.read(files.plan, actor, files.UploadTo(id=change.job.item_id))
    with files.begin(store, actor, key) as upload:
        upload.write(new)
        stored = upload.finish()
    name = files.keep(store, actor, stored)
    content = None if name == stored.digest else stored.digest
    return change._replace(blob=name, content=content, size=len(new))


def change_file(tx: Tx, actor: Actor, change: FileChange) -> None:
    """Exchange or remove a file, if it is still what was read."""
    item = records.get(tx, Item, actor, change.job.item_id, states=erasures.READABLE, lock=True)
    file = change.file
    if file not in erasures.files_of(tx, item):
        raise Stale(f"a file of {item.kind} {item.id} changes while it is searched: later")
    if file.removal_id:
        _drop_removed(tx, actor, file)
    elif change.path:
        _exchange(tx, actor, item, change)
    else:
        tx.execute(delete(t.files).where(*_at(item, file.path)))
        records.add_bytes(tx, item.id, item.organization_id, -file.size)
    if not change.path or change.blob != file.blob:
        blob_refs.release(tx, item.organization_id, {file.blob: 1})
        purge.hold_blob(tx, item.organization_id, change.job.erasure.id, file.blob, file.size)


def _at(item: Item, path: str) -> tuple[Any, ...]:
    f = t.files.c
    return f.organization_id == item.organization_id, f.owner_id == item.id, f.path == path


def _exchange(tx: Tx, actor: Actor, item: Item, change: FileChange) -> None:
    path = change.path
    if path != change.file.path and tx.one(select(t.files.c.path).where(*_at(item, path))) is not None:
        path = f"{tx.new_id()}/{path}"
    values: dict[str, Any] = {"path": path}
    if change.blob != change.file.blob:
        blob_refs.refer(tx, actor, change.blob)
        values |= {"digest": change.blob, "content": change.content, "size": change.size}
        records.add_bytes(tx, item.id, item.organization_id, change.size - change.file.size)
    tx.execute(update(t.files).where(*_at(item, change.file.path)).values(values))


def _drop_removed(tx: Tx, actor: Actor, file: TextFile) -> None:
    """A file that is in the trash on its own is purged: there is nothing to redact it for."""
    removal = removal_records.get(tx, actor, file.removal_id, lock=True)
    records.add_bytes(tx, removal.item_id, removal.organization_id, -removal.bytes)
    purged = {"state": "purged", "purged_at": tx.now, "purged_by": "erasure", **removal_records.BLANK}
    removal_records.change(tx, removal, **purged)


__all__ = ["Job", "Result", "process", "redacted"]

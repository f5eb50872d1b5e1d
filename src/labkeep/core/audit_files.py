"""The audit trail as a file: what a line holds, and how a file is checked without a server. Pure.

JSON lines: a head, then one line for each event, or for its bare link where it belongs to another workspace, and one
for each signed checkpoint behind the event that it covers. CSV is for people and spreadsheets and cannot be checked.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import msgspec

from labkeep.core import audit
from labkeep.core.audit import START, Checkpoint, Link
from labkeep.core.commands_proof import DeletedObject
from labkeep.core.entities import AuditEvent
from labkeep.core.errors import Invalid
from labkeep.core.receipts import PublicKey, Verify, canonical, key_bytes, signature_bytes

TYPE = "labkeep.audit/1"
"""What the head of an export says that it is."""

MAX_LINE_BYTES = 16 * 1024 * 1024


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """What there is to say of an event's object. Once it is purged: the digest of its name, and what its record kept."""

    kind: str
    state: str
    name: str = ""
    name_digest: str = ""
    """SHA-256 of the name, once purged."""
    status: str = ""
    """A run's own status; of what is deleted, the last one that it had."""
    created_by: str = ""


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An event with its subject; of another workspace's event only its place in the chain."""

    event: AuditEvent | None = None
    subject: Subject | None = None
    seq: int = 0
    previous: str = ""
    hash: str = ""

    @property
    def number(self) -> int:
        """The number of the event."""
        return self.seq if self.event is None else self.event.seq


class AuditPage(msgspec.Struct, frozen=True, kw_only=True):
    """Events in order, and the checkpoints among them. ``next`` goes into ``after`` for the following ones."""

    entries: list[Entry]
    checkpoints: list[Checkpoint]
    organization_id: str
    after: int
    next: int | None
    pruned: int
    """Events up to this number were dropped by the trail's own retention."""
    end: int
    """The last event that was asked for."""


class Head(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The first line of a file."""

    type: str
    organization_id: str
    after: int
    """The file begins behind this event."""
    pruned: int = 0
    exported_at: str = ""
    server: str = ""


class _Line(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    event: AuditEvent | None = None
    subject: Subject | None = None
    link: _Link | None = None
    checkpoint: Checkpoint | None = None


class _Link(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    seq: int
    previous: str
    hash: str


_encoder = msgspec.json.Encoder(order="deterministic")


# --- writing ----------------------------------------------------------------------------------------------------------


def head_line(head: Head) -> bytes:
    """The first line of a file of JSON lines."""
    return _encoder.encode(head) + b"\n"


def json_lines(page: AuditPage) -> bytes:
    """A page as JSON lines: its events, and behind each of them its checkpoint."""
    points = {point.seq: point for point in page.checkpoints}
    lines: list[Any] = []
    for entry in page.entries:
        if entry.event is None:
            lines.append({"link": _Link(seq=entry.seq, previous=entry.previous, hash=entry.hash)})
        elif entry.subject is None:
            lines.append({"event": entry.event})
        else:
            lines.append({"event": entry.event, "subject": entry.subject})
        if entry.number in points:
            lines.append({"checkpoint": points[entry.number]})
    return _encoder.encode_lines(lines)


CSV_COLUMNS = (
    *("seq", "at", "event", "actor", "key_id", "client", "request_id", "workspace_id"),
    *("subject_id", "subject_kind", "subject_state", "subject_name", "subject_status", "subject_created_by"),
    *("deletion_id", "count", "reason", "ticket", "details", "previous", "hash"),
)
"""The columns of a CSV export."""

_NO_SUBJECT = Subject(kind="", state="")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def csv_head() -> bytes:
    """The first line of a CSV file."""
    return _csv([CSV_COLUMNS])


def csv_lines(page: AuditPage) -> bytes:
    """The events of a page that may be seen, as CSV. No cell begins like a formula: such text gets an apostrophe."""
    seen = [(entry.event, entry.subject or _NO_SUBJECT) for entry in page.entries if entry.event is not None]
    rows = [_values(*each) for each in seen]
    return _csv([[_cell(row[name]) for name in CSV_COLUMNS] for row in rows])


OBJECT_COLUMNS = (
    *("deletion_id", "id", "kind", "outcome", "name", "status", "state_before", "created_by", "created_at"),
    *("trashed_by", "trashed_at", "reason", "ticket", "purged_by", "purged_at", "objects"),
)
"""The columns of a CSV file with a line for each deleted object."""


def object_head() -> bytes:
    """The first line of that file."""
    return _csv([OBJECT_COLUMNS])


def object_lines(objects: Iterable[DeletedObject], *, as_csv: bool) -> bytes:
    """Deleted objects as CSV, or as JSON lines. The name of what was purged is ``sha256:`` and its digest."""
    shown = [
        msgspec.structs.replace(one, name=f"sha256:{one.name_digest}") if one.name_digest else one for one in objects
    ]
    if not as_csv:
        return _encoder.encode_lines(shown)
    return _csv([[_cell(_plain(getattr(one, name))) for name in OBJECT_COLUMNS] for one in shown])


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _values(event: AuditEvent, subject: Subject) -> dict[str, Any]:
    found = {name: getattr(event, name) for name in AuditEvent.__struct_fields__}
    found |= {f"subject_{name}": getattr(subject, name) for name in Subject.__struct_fields__}
    if subject.name_digest:
        found["subject_name"] = f"sha256:{subject.name_digest}"
    details = _encoder.encode(event.details).decode() if event.details else ""
    return found | {"at": event.at.isoformat(), "details": details}


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _csv(rows: Sequence[Sequence[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


# --- checking ---------------------------------------------------------------------------------------------------------


class FileReport(msgspec.Struct, frozen=True, kw_only=True):
    """What checking a file came to."""

    intact: bool
    """Every event follows from the one before it, and no checkpoint says otherwise."""
    first: int
    last: int
    """Numbers of the first and the last event of the file."""
    events: int
    links: int
    """Events of other workspaces: their places were checked, and their content is not in the file."""
    checkpoints: int
    checkpoint: int
    """The last event that a signed checkpoint covers: up to here nothing can have been cut off or made anew."""
    first_break: int | None
    problems: list[str]


def examine(lines: Iterable[bytes], keys: Sequence[PublicKey], verify: Verify) -> FileReport:
    """Check the lines of an export, in bounded memory. Invalid when this is no export."""
    checker = _Checker(keys, verify)
    for number, line in enumerate(lines, 1):
        checker.take(number, line)
        if checker.broken is not None:
            break
    return checker.report()


class _Checker:
    """Goes along a file. Events wait until there are enough of them to be hashed at once."""

    def __init__(self, keys: Sequence[PublicKey], verify: Verify) -> None:
        self._keys, self._verify = {key.kid: key for key in keys}, verify
        self._head: Head | None = None
        self._link: Link | None = None
        self._waiting: list[AuditEvent] = []
        self._decode = msgspec.json.Decoder(_Line).decode
        self.broken: int | None = None
        self.problems: list[str] = []
        self.first = self.events = self.links = self.checkpoints = self.covered = 0

    def take(self, number: int, line: bytes) -> None:
        if self._head is None:
            self._begin(line)
            return
        found = self._parse(number, line)
        if found is None:
            return
        if found.event is not None:
            self._waiting.append(found.event)
            if len(self._waiting) >= audit.BATCH:
                self._flush()
        elif found.link is not None:
            self._flush()
            self._pass(found.link)
        elif found.checkpoint is not None:
            self._flush()
            self._compare(found.checkpoint)

    def report(self) -> FileReport:
        self._flush()
        if self._head is None:
            raise Invalid("the file is empty: it is no export of an audit trail", path="file")
        return FileReport(
            intact=self.broken is None and not self.problems,
            first=self.first,
            last=self._link.seq if self._link else self._head.after,
            events=self.events,
            links=self.links,
            checkpoints=self.checkpoints,
            checkpoint=self.covered,
            first_break=self.broken,
            problems=self.problems,
        )

    def _begin(self, line: bytes) -> None:
        try:
            head = msgspec.json.decode(line, type=Head)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            head = None
        if head is None or head.type != TYPE:
            raise Invalid("the file is no export of an audit trail: make one with `labkeep audit export`", path="file")
        self._head = head
        if head.after == 0:
            self._link = START

    def _parse(self, number: int, line: bytes) -> _Line | None:
        if len(line) <= MAX_LINE_BYTES and line.endswith(b"\n"):
            try:
                found = self._decode(line)
                if (found.event, found.link, found.checkpoint).count(None) == 2:
                    return found
                error: Exception | str = "it is not one thing"
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as failure:
                error = failure
            self.problems.append(f"line {number} is not one that an export has: {error}")
            return None
        self.problems.append(f"line {number} is not whole: the file breaks off")
        return None

    def _start(self, seq: int, previous: str) -> Link:
        if self._link is None:  # the file begins in the middle: what lay before it is not there to be checked
            self._link = Link(seq - 1, previous)
        if not self.first:
            self.first = seq
        return self._link

    def _flush(self) -> None:
        if not self._waiting or self.broken is not None:
            return
        link = self._start(self._waiting[0].seq, self._waiting[0].previous)
        self._link, self.broken = audit.follow(link, audit.columns_of(self._waiting))
        self.events += self._link.seq - link.seq
        self._waiting = []

    def _pass(self, found: _Link) -> None:
        link = self._start(found.seq, found.previous)
        if self.broken is None and found.seq == link.seq + 1 and found.previous == link.hash:
            self._link = Link(found.seq, found.hash)
            self.links += 1
        elif self.broken is None:
            self.broken = link.seq + 1

    def _compare(self, point: Checkpoint) -> None:
        assert self._head is not None
        if self.broken is not None:
            return
        self.checkpoints += 1
        problem = self._problem_with(point)
        if problem:
            self.problems.append(f"checkpoint {point.seq}: {problem}")
        elif self._link != Link(point.seq, point.hash):
            self.problems.append(f"event {point.seq} is not what its checkpoint signed, or is missing")
        else:
            self.covered = point.seq

    def _problem_with(self, point: Checkpoint) -> str:
        key = self._keys.get(point.signing_key_id)
        if key is None:
            return f"key {point.signing_key_id} is not among the keys that were given"
        try:
            signature, public = signature_bytes(point.signature), key_bytes(key)
        except Invalid as error:
            return error.message
        if not self._verify(public, signature, canonical(audit.checkpoint_body(point))):
            return "its signature does not fit"
        assert self._head is not None
        return "" if point.organization_id == self._head.organization_id else "it is of another organization"

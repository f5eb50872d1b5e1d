"""An export of the audit trail on disk: begun, gone on with after it broke off, and checked."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import msgspec

from labkeep.client import signatures
from labkeep.core import audit_files
from labkeep.core.audit_files import AuditPage, FileReport, Head
from labkeep.core.errors import Invalid
from labkeep.core.receipts import PublicKey

FORMATS = ("jsonl", "csv")


class AuditFile:
    """A file that pages are appended to. ``after`` is the number of the last event in it."""

    def __init__(self, path: str | os.PathLike[str], format: str = "jsonl", *, resume: bool = False) -> None:
        if format not in FORMATS:
            raise Invalid(f"{format!r} is no format of an export: use jsonl or csv", path="format")
        self.after = 0
        self._csv = format == "csv"
        self._path = Path(path)
        self._file: BinaryIO
        self._begun = False
        if resume and self._path.exists() and self._path.stat().st_size:
            self._take_up()
        else:
            self._file = self._path.open("wb")

    def write(self, page: AuditPage, server: str = "") -> None:
        """Append a page; before the first one, the head."""
        if not self._begun:
            self._file.write(audit_files.csv_head() if self._csv else _head(page, server))
            self._begun = True
        self._file.write(audit_files.csv_lines(page) if self._csv else audit_files.json_lines(page))
        self._file.flush()
        self.after = page.entries[-1].number if page.entries else max(self.after, page.after)

    def _take_up(self) -> None:
        """Cut off what was written in part only, and find the last event."""
        self._file = self._path.open("r+b")
        try:
            last, end = _last_csv(self._file) if self._csv else _last_json(self._file)
        except BaseException:
            self._file.close()
            raise
        self._file.truncate(end)
        self._file.seek(end)
        self.after, self._begun = last, end > 0

    def __enter__(self) -> AuditFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def _head(page: AuditPage, server: str) -> bytes:
    head = Head(
        type=audit_files.TYPE,
        organization_id=page.organization_id,
        after=page.after,
        pruned=page.pruned,
        exported_at=datetime.now(UTC).isoformat(),
        server=server,
    )
    return audit_files.head_line(head)


def _last_json(file: BinaryIO) -> tuple[int, int]:
    """The number of the last event, and where the last whole line ends."""
    last = end = 0
    for number, line in enumerate(iter(file.readline, b"")):
        try:
            found = msgspec.json.decode(line) if line.endswith(b"\n") else None
        except (msgspec.MsgspecError, UnicodeDecodeError):
            found = None
        if number == 0 and (not isinstance(found, dict) or found.get("type") != audit_files.TYPE):
            raise Invalid("the file is no export of an audit trail: choose another one, or do not resume", path="path")
        if not isinstance(found, dict):
            break
        last = (found.get("event") or found.get("link") or {}).get("seq") or found.get("after") or last
        end += len(line)
    return last, end


def _last_csv(file: BinaryIO) -> tuple[int, int]:
    """The same of CSV, where a cell may hold line breaks: a row is whole when as many cells follow as it needs."""
    last = end = 0
    row = b""
    for line in iter(file.readline, b""):
        row += line
        if not line.endswith(b"\n") or row.count(b'"') % 2:
            continue
        cells = next(csv.reader(io.StringIO(row.decode("utf-8", "replace"), newline="")))
        if end == 0 and tuple(cells) != audit_files.CSV_COLUMNS:
            raise Invalid("the file is no export of an audit trail: choose another one, or do not resume", path="path")
        last = int(cells[0]) if end else 0
        end += len(row)
        row = b""
    return last, end


def examine(path: str | os.PathLike[str], keys: list[PublicKey]) -> FileReport:
    """Check a file of JSON lines. Invalid when it is no export, Unavailable where signatures cannot be checked."""

    def lines() -> Iterator[bytes]:
        with Path(path).open("rb") as file:
            while line := file.readline(audit_files.MAX_LINE_BYTES + 1):
                yield line

    return audit_files.examine(lines(), keys, signatures.verifier())

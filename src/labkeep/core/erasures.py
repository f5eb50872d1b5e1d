"""Erasing one person: what counts as speaking of them, what stands in the place of it, and the request. Pure."""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from labkeep.core.commands import Command, Key, Moment, Paged, Text
from labkeep.core.entities import Entity, Json
from labkeep.core.ids import Id

MARK = "[erased]"
"""What stands where a value was."""

DUE_DAYS = 30
"""Days in which a request must be answered, unless it says otherwise."""

ACTIONS = ("redact", "delete")
FILES = ("replace", "remove")
WHOLE = ("run", "document", "artifact_version")
"""Kinds of objects that can go as a whole."""

Subject = Annotated[str, Meta(min_length=3, max_length=512, pattern=r"^[^\x00]+$")]


class Erasure(Entity, frozen=True, kw_only=True):
    """A request to erase one person. Once it is done only the digest of the person's name stays."""

    workspace_id: str
    field: str = ""
    subject: str = ""
    subject_digest: str
    action: str = "redact"
    state: str = "open"
    """open, running, done, partly_held or cancelled."""
    reason: str = ""
    ticket: str = ""
    created_by: str
    due_at: datetime
    finished_at: datetime | None = None
    report: Json = {}
    """Options, the last preview, and what was found, redacted, deleted, held and blocked: counts and ids, no content."""
    receipt_id: str | None = None


class CreateErasure(Command, frozen=True, kw_only=True):
    """Ask to erase ``subject``: the rows whose declared ``field`` is that, or whatever says it anywhere.

    ``action`` redact puts a mark in its place; delete removes rows, and redacts elsewhere. ``text_files``: they are
    replaced by redacted ones, or removed. ``whole`` names kinds (run, document, artifact_version) whose objects are
    purged when they speak of the person anywhere.
    """

    subject: Subject
    field: Key = ""
    action: str = "redact"
    text_files: str = "replace"
    whole: Annotated[list[str], Meta(max_length=len(WHOLE))] = []
    reason: Text = ""
    ticket: Key = ""
    due_at: Moment | None = None


class ListErasures(Paged, frozen=True, kw_only=True):
    """Requests to erase: what is not answered and overdue first, then the newest."""

    state: str = ""


class RunErasure(Command, frozen=True, kw_only=True):
    """Do what a request asks for. A job; it verifies itself."""

    id: Id
    reason: Text = ""


class PreviewErasure(Command, frozen=True, kw_only=True):
    """Look for what a request would change. A job; its report has counts and ids, no content."""

    id: Id


class CancelErasure(Command, frozen=True, kw_only=True):
    """Withdraw a request. The person's name is forgotten."""

    id: Id
    reason: Text = ""


class AskedErasure(msgspec.Struct, frozen=True, kw_only=True):
    """A request, and the job that looks or erases."""

    erasure: Erasure
    job_id: str | None = None


def digest_of(field: str, value: Any) -> str:
    """What is kept of a person: SHA-256 in hex over the field and the value as text."""
    return hashlib.sha256(f"{field}\x00{value}".encode(errors="replace")).hexdigest()


class Matcher:
    """Finds one person: as a whole value, or within a text between word boundaries. Upper and lower case differ.

    In JSON that is every text, every key and every number that is written the same.
    """

    def __init__(self, subject: str) -> None:
        self.subject = subject
        before = r"(?<!\w)" if re.match(r"\w", subject[0]) else ""
        after = r"(?!\w)" if re.match(r"\w", subject[-1]) else ""
        self._pattern = re.compile(f"{before}{re.escape(subject)}{after}")

    def count(self, value: Any) -> int:
        """How often ``value``, a text or anything in JSON, speaks of the person."""
        if isinstance(value, str):
            return len(self._pattern.findall(value)) if self.subject in value else 0
        if isinstance(value, dict):
            return sum(self.count(key) + self.count(child) for key, child in value.items())
        if isinstance(value, list | tuple):
            return sum(map(self.count, value))
        return int(self._is_number(value))

    def redact(self, value: Any) -> Any:
        """``value`` with the mark wherever it speaks of the person."""
        if isinstance(value, str):
            return self._pattern.sub(MARK, value) if self.subject in value else value
        if isinstance(value, dict):
            return {self._key(value, key): self.redact(child) for key, child in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(self.redact(child) for child in value)
        return MARK if self._is_number(value) else value

    def _key(self, value: dict[str, Any], key: str) -> str:
        """The key of an object, which must stay one of its own."""
        new = str(self.redact(key))
        return new if new == key or new not in value else f"{new}-{len(value)}"

    def _is_number(self, value: Any) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool) and str(value) == self.subject

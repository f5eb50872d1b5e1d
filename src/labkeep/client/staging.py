"""Copies of files that are to be uploaded, so that the training may overwrite or remove them at once."""

from __future__ import annotations

import hashlib
import os
import threading
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from labkeep.client.transport import file_pieces


class Staging:
    """One run's copies, by digest. A copy goes when what needed it was delivered."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._needed: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add(self, source: Path) -> tuple[str, int]:
        """Copy ``source``; returns its digest and size. OSError when it cannot be read or the disk is full."""
        self.root.mkdir(parents=True, exist_ok=True)
        part = self.root / f".{os.getpid()}.{threading.get_ident()}.part"
        try:
            digest, size = _copy(source, part)
            with self._lock:
                self._needed[digest] += 1
                part.replace(self.path(digest))
        finally:
            part.unlink(missing_ok=True)
        return digest, size

    def path(self, digest: str) -> Path:
        """Where the copy with this digest is."""
        return self.root / digest.removeprefix("sha256:")

    def drop(self, digest: str) -> None:
        """One who needed this copy is done."""
        with self._lock:
            self._needed[digest] -= 1
            if self._needed[digest] <= 0:
                del self._needed[digest]
                self.path(digest).unlink(missing_ok=True)

    def needed(self, digests: Iterable[str]) -> None:
        """Each of these, which another process has copied, is needed once more."""
        with self._lock:
            self._needed.update(digests)

    def close(self) -> None:
        """Remove the folder when nothing is left in it."""
        with suppress(OSError):
            self.root.rmdir()


def _copy(source: Path, to: Path) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    with to.open("wb") as copy:
        for piece in file_pieces(source):
            digest.update(piece)
            size += len(piece)
            copy.write(piece)
    return f"sha256:{digest.hexdigest()}", size

"""Files from a server: checked while they come, and there as a whole or not at all."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import TracebackType
from typing import Self

from labkeep.core.errors import Corrupt, Invalid


class Download:
    """A file that is being received beside its place, and moved there when it is complete and right.

    Use it as a context manager and hand out ``write`` as the sink of a call.
    """

    def __init__(self, to: Path, digest: str | None = None) -> None:
        self._to = to
        self._digest = digest
        self._part = to.with_name(f".{to.name}.{os.getpid()}.part")
        self._hash = hashlib.sha256()

    def __enter__(self) -> Self:
        self._to.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._part.open("wb")
        return self

    def write(self, piece: bytes) -> None:
        """Take the next piece of the file."""
        self._hash.update(piece)
        self._file.write(piece)

    def restart(self) -> None:
        """Forget what came so far: the request is tried again."""
        self._file.seek(0)
        self._file.truncate()
        self._hash = hashlib.sha256()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        try:
            if kind is None:
                self._check()
                self._part.replace(self._to)
        finally:
            self._part.unlink(missing_ok=True)

    def _check(self) -> None:
        found = f"sha256:{self._hash.hexdigest()}"
        if self._digest is not None and found != self._digest:
            raise Corrupt(
                f"{self._to.name} came with other bytes than it should have ({found} instead of {self._digest}); "
                "nothing was written",
                path=self._to.name,
            )


class Memory:
    """The body of an answer, kept in memory."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def restart(self) -> None:
        """Forget what came so far: the request is tried again."""
        self._pieces.clear()

    def write(self, piece: bytes) -> None:
        """Take the next piece."""
        self._pieces.append(piece)

    def content(self) -> bytes:
        """Everything that came."""
        return b"".join(self._pieces)


def safe_path(root: Path, path: str) -> Path:
    """``path`` below ``root``. Invalid for one that would lead out of it: absolute, with ``..``, or through a link."""
    pure = PurePosixPath(path)
    if (
        not pure.parts
        or pure.is_absolute()
        or ".." in pure.parts
        or PureWindowsPath(path).drive
        or set(path) & set("\\\0")
    ):
        raise Invalid(f"the path {path!r} leads out of the folder; it is not written", path=path)
    target = root.joinpath(*pure.parts)
    if not target.parent.resolve().is_relative_to(root.resolve()):
        raise Invalid(f"the path {path!r} leads out of the folder through a link; it is not written", path=path)
    return target


def file_digest(path: Path) -> str:
    """``sha256:…`` of a file's content."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"

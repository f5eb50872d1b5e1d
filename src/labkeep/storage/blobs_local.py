"""Blobs as files in a folder, the default store."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from labkeep.core.errors import Unavailable
from labkeep.core.faults import reach
from labkeep.storage.blobs import (
    PIECE_BYTES,
    UPLOADS,
    Blobs,
    Listed,
    Upload,
    blob_key,
    check_space,
    missing_blob,
    parse_key,
    sweep_limit,
)

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class LocalBlobs(Blobs):
    """Blobs as files under ``root``, which is made if need be and must be one filesystem (POSIX).

    A put is one fsync of the file, one rename and one fsync of its folder. Several processes may share a root.
    """

    removal = "files unlinked"

    def __init__(self, root: str | Path) -> None:
        self._root = Path(root).absolute()
        self._uploads = self._root / UPLOADS
        try:
            self._uploads.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise Unavailable(f"the blob folder {self._root} cannot be made: {error.strerror}") from error
        self._durable: set[Path] = set()
        self._pool = ThreadPoolExecutor(8, thread_name_prefix="labkeep-blobs")

    def begin(self, space: str) -> Upload:
        return _LocalUpload(space, self)

    def _adopt(self, temporary: Path, key: str) -> None:
        """Move a complete and synced file to its place, over what may be there."""
        target = self._root / key
        try:
            self._make_folder(target.parent)
            temporary.replace(target)
        except FileNotFoundError:
            # The folder that we knew of was removed by hand.
            self._durable.clear()
            self._make_folder(target.parent)
            temporary.replace(target)
        _sync_folder(target.parent)

    def _make_folder(self, folder: Path) -> None:
        """Each process makes sure once that a folder's own entry is on disk: who made it may not have got there."""
        if folder in self._durable or folder == self._root:
            return
        self._make_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
        _sync_folder(folder.parent)
        if len(self._durable) >= 100_000:
            self._durable.clear()
        self._durable.add(folder)

    def _pieces(self, key: str, start: int, end: int | None) -> Iterator[bytes]:
        with _disk():
            try:
                file = (self._root / key).open("rb", buffering=0)
            except FileNotFoundError:
                raise missing_blob(key) from None
            with file:
                yield b""
                file.seek(start)
                left = (os.fstat(file.fileno()).st_size if end is None else end) - start
                while left > 0 and (piece := file.read(min(left, PIECE_BYTES))):
                    left -= len(piece)
                    yield piece

    def path(self, space: str, digest: str) -> Path | None:
        self.size(space, digest)
        return self._root / blob_key(space, digest)

    def size(self, space: str, digest: str) -> int:
        key = blob_key(space, digest)
        with _disk():
            try:
                return (self._root / key).stat().st_size
            except FileNotFoundError:
                raise missing_blob(key) from None

    def delete(self, space: str, digests: Iterable[str]) -> int:
        check_space(space)
        shards: dict[str, set[str]] = {}
        for digest in digests:
            shard, _, name = blob_key(space, digest).rpartition("/")
            shards.setdefault(shard, set()).add(name)
        folders = [self._root / shard for shard in shards]
        # In threads because the kernel works on different folders at once; a journal commit then serves many fsyncs.
        run = self._pool.map if len(folders) > 1 else map
        with _disk():
            found = sum(run(_unlink, folders, shards.values()))
            # Also where we found nothing: whoever unlinked it may not have synced yet, and we say that it is gone.
            for _ in run(_sync_folder, folders):
                pass
        return found

    def list(self, space: str | None = None) -> Iterator[Listed]:
        return self._walk(None if space is None else check_space(space))

    def _walk(self, space: str | None) -> Iterator[Listed]:
        with _disk():
            spaces = (entry.name for entry in _entries(self._root)) if space is None else (space,)
            for each in spaces:
                if each != UPLOADS:
                    for shard in _entries(self._root / each):
                        yield from _listing(each, Path(shard.path))

    def sweep_uploads(self, older_than_s: float) -> int:
        limit = sweep_limit(older_than_s)
        swept = 0
        with _disk():
            for path in self._uploads.iterdir():
                try:
                    if path.stat().st_mtime <= limit:
                        path.unlink()
                        swept += 1
                except FileNotFoundError:  # that upload ended this moment
                    continue
            _sync_folder(self._uploads)
        return swept

    def close(self) -> None:
        self._pool.shutdown()


class _LocalUpload(Upload):
    def __init__(self, space: str, blobs: LocalBlobs) -> None:
        super().__init__(space)
        self._blobs = blobs
        self._path = blobs._uploads / uuid.uuid4().hex
        with _disk():
            self._file = self._path.open("xb", buffering=0)

    def _append(self, view: memoryview) -> None:
        with _disk():
            while view:
                view = view[self._file.write(view) :]

    def _keep(self, key: str) -> None:
        with _disk():
            os.fsync(self._file.fileno())
            self._file.close()
            reach("blob.written")
            self._blobs._adopt(self._path, key)
            reach("blob.renamed")

    def _discard(self) -> None:
        with suppress(OSError):  # a failing disk is what may have brought us here; sweep_uploads gets what stays
            self._file.close()
            self._path.unlink(missing_ok=True)


@contextmanager
def _disk() -> Iterator[None]:
    """An OSError of the disk as Unavailable."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            message = "the disk of the blob store is full: nothing of this was kept; free space, then send it again"
        else:
            message = f"the disk of the blob store failed ({error.strerror}): see the server's log, then try again"
        raise Unavailable(message, reason=errno.errorcode.get(error.errno or 0, "unknown")) from error


def _sync_folder(folder: Path) -> None:
    try:
        handle = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _unlink(folder: Path, names: set[str]) -> int:
    """How many of ``names`` there were in ``folder``. By an open folder: resolving long paths would double the time."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return 0
    found = 0
    try:
        for name in names:
            try:
                os.unlink(name, dir_fd=handle)
                found += 1
            except FileNotFoundError:
                continue
    finally:
        os.close(handle)
    return found


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    """What lies in ``folder``, streamed; nothing when it is no folder (any more)."""
    try:
        entries = os.scandir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return
    with entries:
        yield from entries


def _listing(space: str, shard: Path) -> Iterator[Listed]:
    for entry in _entries(shard):
        found = parse_key(f"{space}/{shard.name}/{entry.name}")
        if found is None or not entry.is_file():
            continue
        try:
            stat = entry.stat()
        except FileNotFoundError:  # deleted since the folder was read
            continue
        yield Listed(*found, stat.st_size, datetime.fromtimestamp(stat.st_mtime, UTC))

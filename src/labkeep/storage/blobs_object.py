"""Blobs in an object store: S3 and what speaks its API, Google Cloud Storage, Azure Blob Storage.

A small upload is one PUT at the blob's key. The digest of a large one is known only when its last part has left, so
it goes to a temporary key in parts and the store then copies it to its own key. An abandoned upload is aborted at
the store; what a killed process leaves is either a temporary object, which ``sweep_uploads`` removes, or an
incomplete multipart upload, which no listing shows: let a lifecycle rule of the bucket abort those after a day.

A bucket that keeps old versions keeps deleted blobs too: turn versioning off, or let a rule expire old versions.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import obstore
from obstore.exceptions import BaseError, GenericError
from obstore.store import from_url

from labkeep.core.errors import Invalid, Unavailable
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

if TYPE_CHECKING:
    from obstore import WritableFile
    from obstore.store import ObjectStore, RetryConfig

SMALL_BYTES = 8 << 20
"""An upload below this is held in memory and sent at once."""

PART_BYTES = 16 << 20
"""Size of a part of a large upload: S3 allows 10,000 of them, so 156 GiB a blob. Four are in memory at once."""

COPY_BYTES = 1 << 30
"""Up to this size the store copies by itself (S3 refuses above 5 GiB, and the answer must come before a timeout)."""

WINDOW_BYTES = 8 << 20
"""A read fetches this much per request, so that a slow reader never holds a request open."""

_CLIENT_DEFAULTS = {"connect_timeout": "5s", "timeout": "60s"}
_CLIENT_OPTIONS = {
    *("allow_http", "allow_invalid_certificates", "connect_timeout", "http1_only", "http2_only", "pool_idle_timeout"),
    *("pool_max_idle_per_host", "proxy_ca_certificate", "proxy_excludes", "proxy_url", "randomize_addresses"),
    *("read_timeout", "root_certificate", "timeout", "user_agent"),
}

log = logging.getLogger(__name__)


def open_object_blobs(url: str, options: Mapping[str, Any]) -> ObjectBlobs:
    """The store at ``s3://bucket/prefix`` (``gs://``, ``az://account/container/prefix``). Nothing is sent yet.

    ``options`` may all be text, as they are in a settings file: the store's own (``endpoint``, ``region``,
    ``access_key_id`` …), the connection's (``timeout`` and ``connect_timeout`` as ``"60s"``, ``root_certificate`` …),
    ``max_retries`` and ``retry_timeout_s``. A plain ``http://`` endpoint is taken as meant.
    """
    settings = dict(options)
    plain = {"allow_http": True} if any(str(value).startswith("http://") for value in options.values()) else {}
    client = {name: settings.pop(name) for name in _CLIENT_OPTIONS & settings.keys()}
    try:
        retry: RetryConfig = {
            "max_retries": int(settings.pop("max_retries", 5)),
            "retry_timeout": timedelta(seconds=float(settings.pop("retry_timeout_s", 30))),
        }
        whole: Any = {**_CLIENT_DEFAULTS, **plain, **client}
        return ObjectBlobs(from_url(url, client_options=whole, retry_config=retry, **settings))
    except (BaseError, ValueError, TypeError) as error:
        raise Invalid(f"the blob store {url} cannot be opened: {_first_line(error)}", path="blobs") from error


class ObjectBlobs(Blobs):
    """Blobs under ``prefix`` of an obstore store. The sizes are for tests and unusual stores."""

    removal = "objects deleted; versions and replicas that the bucket keeps are not touched"

    def __init__(
        self,
        store: ObjectStore,
        prefix: str = "",
        *,
        small_bytes: int = SMALL_BYTES,
        part_bytes: int = PART_BYTES,
        copy_bytes: int = COPY_BYTES,
    ) -> None:
        self._store = store
        self._prefix = f"{prefix.strip('/')}/".lstrip("/")
        self._small_bytes = small_bytes
        self._part_bytes = part_bytes
        self._copy_bytes = copy_bytes
        self._pool = ThreadPoolExecutor(16, thread_name_prefix="labkeep-blobs")

    def begin(self, space: str) -> Upload:
        return _ObjectUpload(space, self)

    def _pieces(self, key: str, start: int, end: int | None) -> Iterator[bytes]:
        with _answers():
            size, window = self._first_window(key, start, end)
            yield b""
            stop = size if end is None else min(end, size)
            for at in range(start, stop, WINDOW_BYTES):
                if at > start:
                    window = self._window(key, at, min(at + WINDOW_BYTES, stop))
                for offset in range(0, len(window), PIECE_BYTES):
                    yield window[offset : offset + PIECE_BYTES]

    def _first_window(self, key: str, start: int, end: int | None) -> tuple[int, bytes]:
        """The blob's size and the first bytes of the range, in one request for all but ranges without bytes."""
        stop = start + WINDOW_BYTES if end is None else min(end, start + WINDOW_BYTES)
        if stop <= start:
            return self._size(key), b""
        try:
            got = obstore.get(self._store, self._prefix + key, options={"range": (start, stop)})
            return got.meta["size"], bytes(got.bytes())
        except FileNotFoundError as error:
            self._require_bucket()
            raise missing_blob(key) from error
        except BaseError:
            # A range that starts at or past the end, as any range of an empty blob does, is an error to a store.
            if (size := self._size(key)) > start:
                raise
            return size, b""

    def _window(self, key: str, start: int, stop: int) -> bytes:
        try:
            return bytes(obstore.get_range(self._store, self._prefix + key, start=start, end=stop))
        except FileNotFoundError as error:
            raise Unavailable("the blob was deleted while it was being read") from error

    def path(self, space: str, digest: str) -> Path | None:
        blob_key(space, digest)
        return None

    def size(self, space: str, digest: str) -> int:
        key = blob_key(space, digest)
        with _answers():
            return self._size(key)

    def _size(self, key: str) -> int:
        try:
            return obstore.head(self._store, self._prefix + key)["size"]
        except FileNotFoundError as error:
            self._require_bucket()
            raise missing_blob(key) from error

    def delete(self, space: str, digests: Iterable[str]) -> int:
        check_space(space)
        keys = {blob_key(space, digest) for digest in digests}
        with _answers():
            # A store answers the same for a deleted and for a missing key: asking first is the only way to count.
            present = [key for key, there in zip(keys, self._pool.map(self._exists, keys), strict=True) if there]
            if len(present) < len(keys):
                self._require_bucket()
            self._delete([self._prefix + key for key in present])
        return len(present)

    def _exists(self, key: str) -> bool:
        try:
            obstore.head(self._store, self._prefix + key)
        except FileNotFoundError:
            return False
        return True

    def _delete(self, keys: Sequence[str]) -> None:
        """Delete in batches of what the store takes; a key that is missing is fine, which not every store says."""
        try:
            if keys:
                obstore.delete(self._store, keys)
        except FileNotFoundError:
            for key in keys:
                with suppress(FileNotFoundError):
                    obstore.delete(self._store, key)

    def _require_bucket(self) -> None:
        """HEAD answers 404 for a missing bucket as for a missing key, and "deleted" must never rest on the former."""
        for _ in obstore.list(self._store, prefix=self._prefix + UPLOADS, chunk_size=1):
            break

    def list(self, space: str | None = None) -> Iterator[Listed]:
        return self._walk("" if space is None else check_space(space))

    def _walk(self, under: str) -> Iterator[Listed]:
        with _answers():
            for batch in obstore.list(self._store, prefix=(self._prefix + under) or None, chunk_size=1000):
                for each in batch:
                    found = parse_key(each["path"].removeprefix(self._prefix))
                    if found is not None:
                        yield Listed(*found, each["size"], each["last_modified"])

    def sweep_uploads(self, older_than_s: float) -> int:
        limit = sweep_limit(older_than_s)
        with _answers():
            batches = obstore.list(self._store, prefix=self._prefix + UPLOADS, chunk_size=1000)
            old = [each["path"] for batch in batches for each in batch if each["last_modified"].timestamp() <= limit]
            self._delete(old)
        return len(old)

    def close(self) -> None:
        self._pool.shutdown()


class _ObjectUpload(Upload):
    """In memory until it is large, then in parts to a temporary key."""

    def __init__(self, space: str, blobs: ObjectBlobs) -> None:
        super().__init__(space)
        self._blobs = blobs
        self._buffer = bytearray()
        self._temporary = f"{blobs._prefix}{UPLOADS}/{uuid.uuid4().hex}"
        self._writer: WritableFile | None = None

    def _append(self, view: memoryview) -> None:
        with _answers():
            if self._writer is not None:
                self._writer.write(view)
                return
            self._buffer += view
            if len(self._buffer) >= self._blobs._small_bytes:
                self._writer = self._open_writer(self._temporary)
                self._writer.write(bytes(self._buffer))
                self._buffer.clear()

    def _open_writer(self, key: str) -> WritableFile:
        return obstore.open_writer(self._blobs._store, key, buffer_size=self._blobs._part_bytes, max_concurrency=3)

    def _keep(self, key: str) -> None:
        target = self._blobs._prefix + key
        with _answers():
            if self._writer is None:
                self._put(target)
                return
            self._writer.close()
            self._copy(target)
            self._blobs._delete([self._temporary])

    def _put(self, target: str) -> None:
        for attempts_left in reversed(range(5)):
            try:
                obstore.put(self._blobs._store, target, bytes(self._buffer), use_multipart=False)
                return
            except GenericError as error:
                # OpenStack Swift orders by time of arrival: where a deletion that came later was done first, it
                # answers 202 with no ETag and keeps nothing. Sending again makes the upload the later one.
                if "ETag" not in _first_line(error) or not attempts_left:
                    raise

    def _copy(self, target: str) -> None:
        if self.size <= self._blobs._copy_bytes:
            obstore.copy(self._blobs._store, self._temporary, target)
            return
        # Leaving the writer by an error aborts it: the target is written whole or not at all.
        with self._open_writer(target) as writer:
            for at in range(0, self.size, WINDOW_BYTES):
                stop = min(at + WINDOW_BYTES, self.size)
                writer.write(obstore.get_range(self._blobs._store, self._temporary, start=at, end=stop))

    def _discard(self) -> None:
        self._buffer.clear()
        if self._writer is None:
            return
        abandoned = ConnectionAbortedError("upload abandoned")
        # A failing store is what may have brought us here; sweep_uploads and the bucket's own rule get what stays.
        with suppress(BaseError, OSError):
            if self._writer.closed():
                self._blobs._delete([self._temporary])
            else:
                self._writer.__exit__(type(abandoned), abandoned, None)


@contextmanager
def _answers() -> Iterator[None]:
    """What a store answers in place of doing it, 5xx and time-outs after the retries included, as Unavailable."""
    try:
        yield
    except (BaseError, OSError) as error:
        log.warning("object store: %s", _first_line(error))
        raise Unavailable("the object store failed or did not answer: see the server's log, then try again") from error


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0].strip()

"""Encrypted blobs over any blob store: frames under a key for each blob, made when its upload begins.

What lies in the store below is ciphertext, temporary uploads included. A blob is named by its key, so an upload never
writes over another one, and can be deleted or listed by who has no key. Whoever reads gets the content; blobs that are
named by their digest pass through untouched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec

from labkeep.core.errors import Unsupported
from labkeep.storage.blobs import Blobs, KeyMade, Listed, Stored, Upload, key_of_name, name_of_key
from labkeep.storage.cipher import Cipher, FrameWriter, content_size, damaged, open_span, span

FindCipher = Callable[[str, str], Cipher]
"""(space, id of a data key) -> the key at work. NotFound when there is none, Unavailable, Gone, Corrupt."""


def context_of(space: str, name: str) -> bytes:
    """What the frames of a blob are bound to."""
    return f"blob\0{space}\0{name}".encode()


class EncryptedUpload(Upload):
    """Encrypts what is written on its way into ``below``, an upload of the store underneath."""

    def __init__(self, below: Upload, cipher: Cipher, key: KeyMade) -> None:
        super().__init__(below.space)
        self._below, self._key = below, key
        below.will_be_named()
        context = context_of(below.space, name_of_key(key.id))
        self._frames = FrameWriter(cipher, context, below.write)

    def finish(self, expected: str | None = None) -> Stored:
        return msgspec.structs.replace(super().finish(expected), key=self._key)

    def finish_as(self, name: str) -> None:
        raise Unsupported("an encrypted upload is named by its own key")

    def _append(self, view: memoryview) -> None:
        self._frames.write(view)

    def _keep(self, key: str) -> None:
        self._frames.finish()
        self._below.finish_as(name_of_key(self._key.id))

    def _discard(self) -> None:
        self._below.abort()


class EncryptedBlobs(Blobs):
    """``below`` with its encrypted blobs opened by the keys that ``find`` knows."""

    def __init__(self, below: Blobs, find: FindCipher) -> None:
        self.below = below
        self.removal = below.removal
        self._find = find

    def begin(self, space: str) -> Upload:
        """An upload in the clear; `EncryptedUpload` over it makes an encrypted one."""
        return self.below.begin(space)

    def read(self, space: str, digest: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        if key_of_name(digest) is None:
            return self.below.read(space, digest, start, end)
        return super().read(space, digest, start, end)

    def _pieces(self, key: str, start: int, end: int | None) -> Iterator[bytes]:
        space, _, name = key.split("/")
        digest = f"key:{name}"
        asked = span(self.size(space, digest), start, end)
        cipher = self._cipher(space, digest)
        stored = self.below.read(space, digest, asked.start, asked.end)
        yield b""
        yield from open_span(cipher, context_of(space, digest), asked, stored)

    def _cipher(self, space: str, name: str) -> Cipher:
        return self._find(space, key_of_name(name) or name)

    def path(self, space: str, digest: str) -> Path | None:
        if key_of_name(digest) is None:
            return self.below.path(space, digest)
        self.size(space, digest)
        return None  # the file has ciphertext

    def size(self, space: str, digest: str) -> int:
        stored = self.below.size(space, digest)
        if (key_id := key_of_name(digest)) is None:
            return stored
        size = content_size(stored)
        if size is None:
            raise damaged(key_id)
        return size

    def delete(self, space: str, digests: Iterable[str]) -> int:
        return self.below.delete(space, digests)

    def list(self, space: str | None = None) -> Iterator[Listed]:
        """Sizes are those of what is stored, which is a little more than the content of an encrypted blob."""
        return self.below.list(space)

    def sweep_uploads(self, older_than_s: float) -> int:
        return self.below.sweep_uploads(older_than_s)

    def verify(self, space: str, digest: str) -> bool:
        if key_of_name(digest) is None:
            return self.below.verify(space, digest)
        for _ in self.read(space, digest):  # every frame authenticates itself, and the last that it is the last
            pass
        return True

    def close(self) -> None:
        self.below.close()

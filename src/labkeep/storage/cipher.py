"""Encrypted values and streams: AES-256-GCM under a data key. Pure; which key is whose is `labkeep.storage.data_keys`.

A *value* is what fits in one column::

    MARK        1 byte
    nonce       12 bytes, random
    ciphertext  as long as the value, and a tag of 16 bytes

A *stream* is a blob, in frames, so that a range of it can be read and a long one never is in memory::

    MAGIC       8 bytes
    frames      each of FRAME_BYTES of the content and a tag of 16 bytes; the last has 0 (only of an empty content)
                to FRAME_BYTES

Nonces are never used twice with one key. Values have random ones of 96 bits, and a key serves one owner, far below the
2^32 values up to which a collision stays out of the question. The frames of a stream have their number and whether
they are the last for a nonce, and a key serves one stream only: it is made when an upload begins and writes nothing
else. So a frame that is cut off, moved, repeated or taken from another stream fails to authenticate. Everything is
bound to a context that says where it lies: what belongs in one row is refused in another.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from labkeep.core.errors import Corrupt

KEY_BYTES: Final = 32
TAG_BYTES: Final = 16

MARK: Final = b"\xe1"
"""First byte of an encrypted value; nothing that Labkeep stores in the clear in such a column begins with it."""

_NONCE_BYTES: Final = 12

MAGIC: Final = b"LKENC\x01\0\0"
FRAME_BYTES: Final = 64 * 1024
"""Content of a frame: what has to be fetched and decrypted for one byte of it."""

STEP_BYTES: Final = 16 * FRAME_BYTES
"""So much is encrypted at once: it stays in the processor's cache."""

_STORED_BYTES: Final = FRAME_BYTES + TAG_BYTES


def new_key() -> bytes:
    """A random key."""
    return secrets.token_bytes(KEY_BYTES)


class Cipher:
    """One data key at work. ``id`` names it in errors; ``secret`` is the key itself."""

    __slots__ = ("_aead", "id", "secret")

    def __init__(self, id: str, secret: bytes) -> None:
        self.id = id
        self.secret = secret
        self._aead = AESGCM(secret)

    def close(self, value: bytes, context: bytes) -> bytes:
        """``value`` encrypted, for this context only."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return MARK + nonce + self._aead.encrypt(nonce, value, context)

    def open(self, stored: bytes, context: bytes) -> bytes:
        """What `close` was given. Corrupt when it was changed, or belongs to another key or context."""
        nonce, sealed = stored[1 : 1 + _NONCE_BYTES], stored[1 + _NONCE_BYTES :]
        if stored[:1] == MARK and len(sealed) >= TAG_BYTES:
            try:
                return self._aead.decrypt(nonce, sealed, context)
            except InvalidTag:
                pass
        raise Corrupt(
            f"an encrypted value does not open with data key {self.id}: it was changed or moved; run `labkeep check`",
            key=self.id,
        )

    def close_frame(self, number: int, last: bool, content: bytes | memoryview, context: bytes) -> bytes:
        """One frame of the stream that this key is for."""
        return self._aead.encrypt(_nonce(number, last), content, context)

    def open_frame(self, number: int, last: bool, stored: bytes | memoryview, context: bytes) -> bytes:
        """The content of a frame. Corrupt for anything else than that frame of that stream."""
        try:
            return self._aead.decrypt(_nonce(number, last), stored, context)
        except InvalidTag:
            raise damaged(self.id) from None

    def __repr__(self) -> str:
        return f"Cipher({self.id})"


def damaged(key_id: str) -> Corrupt:
    """The error for a stream that does not open."""
    return Corrupt(
        f"an encrypted blob does not open with data key {key_id}: it was cut off or changed; run `labkeep check`",
        key=key_id,
    )


def _nonce(number: int, last: bool) -> bytes:
    return b"\0\0\0" + (b"\x01" if last else b"\0") + number.to_bytes(8, "big")


# --- streams ----------------------------------------------------------------------------------------------------------


class FrameWriter:
    """Encrypts a stream on its way into ``sink``. One frame is held back: only the end tells which is the last."""

    def __init__(self, cipher: Cipher, context: bytes, sink: Callable[[bytes], None]) -> None:
        self._cipher, self._context, self._sink = cipher, context, sink
        self._held = bytearray()
        self._number = 0
        self._begun = False

    def write(self, content: memoryview) -> None:
        """Append."""
        for at in range(0, len(content), STEP_BYTES):
            self._step(content[at : at + STEP_BYTES])

    def _step(self, content: memoryview) -> None:
        self._held += content
        full = (len(self._held) - 1) // FRAME_BYTES  # of those that something follows
        if full > 0:
            with memoryview(self._held) as view:
                frames = [self._frame(view[n * FRAME_BYTES : (n + 1) * FRAME_BYTES], False) for n in range(full)]
            del self._held[: full * FRAME_BYTES]
            self._send(frames)

    def finish(self) -> None:
        """Write the last frame."""
        self._send([self._frame(memoryview(bytes(self._held)), True)])
        self._held.clear()

    def _frame(self, content: memoryview, last: bool) -> bytes:
        with content:
            frame = self._cipher.close_frame(self._number, last, content, self._context)
        self._number += 1
        return frame

    def _send(self, frames: list[bytes]) -> None:
        if not self._begun:
            self._begun = True
            frames = [MAGIC, *frames]
        self._sink(b"".join(frames))


def stored_size(size: int) -> int:
    """Bytes of a stream whose content has ``size`` bytes."""
    return len(MAGIC) + size + TAG_BYTES * max(1, -(-size // FRAME_BYTES))


def content_size(stored: int) -> int | None:
    """Bytes of content of a stream of ``stored`` bytes; None when no stream has that length."""
    framed = stored - len(MAGIC)
    frames = -(-framed // _STORED_BYTES)
    size = framed - frames * TAG_BYTES
    return size if frames > 0 and size >= 0 and stored_size(size) == stored else None


class Span(NamedTuple):
    """Which frames have the range that is asked for, and where they lie in what is stored."""

    first: int
    start: int
    end: int
    last: int
    """Number of the last frame of the whole stream."""
    skip: int
    """Bytes of the first frame before the range."""
    size: int
    """Bytes of the range."""


def span(size: int, start: int, end: int | None) -> Span:
    """The frames for ``[start, end)`` of a content of ``size`` bytes. At least one, which proves the key."""
    stop = size if end is None else min(end, size)
    last = max(0, (size - 1) // FRAME_BYTES)
    begin = min(start, size)
    first = min(begin // FRAME_BYTES, last)
    final = max(first, (stop - 1) // FRAME_BYTES) if stop > begin else first
    return Span(
        first,
        len(MAGIC) + first * _STORED_BYTES,
        min(len(MAGIC) + (final + 1) * _STORED_BYTES, stored_size(size)),
        last,
        begin - first * FRAME_BYTES,
        max(0, stop - begin),
    )


def open_span(cipher: Cipher, context: bytes, asked: Span, stored: Iterable[bytes]) -> Iterator[bytes]:
    """The content of a range from the bytes ``[asked.start, asked.end)`` of what is stored, a frame at a time.

    Corrupt as soon as a frame does not open, or when the bytes end too early.
    """
    number, skip, left = asked.first, asked.skip, asked.size
    for frame in _frames(stored, asked.end - asked.start, cipher.id):
        content = cipher.open_frame(number, number == asked.last, frame, context)[skip : skip + left]
        number, skip, left = number + 1, 0, left - len(content)
        if content:
            yield content


def _frames(stored: Iterable[bytes], size: int, key_id: str) -> Iterator[bytes]:
    """``size`` bytes cut into frames, however they come."""
    held = bytearray()
    left = size
    for piece in stored:
        held += piece
        while len(held) >= min(_STORED_BYTES, left) and left > 0:
            length = min(_STORED_BYTES, left)
            with memoryview(held) as view:
                frame = bytes(view[:length])
            del held[:length]
            yield frame
            left -= length
    if left > 0:
        raise damaged(key_id)

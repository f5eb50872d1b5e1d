"""Values and frames: what was changed, cut off, moved or taken from elsewhere never opens."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkeep.core.errors import Corrupt
from labkeep.storage.cipher import (
    FRAME_BYTES,
    MAGIC,
    MARK,
    TAG_BYTES,
    Cipher,
    FrameWriter,
    content_size,
    new_key,
    open_span,
    span,
    stored_size,
)

KEY = "018f7a2e-0000-7000-8000-00000000000a"
HERE = b"blob\0here"
EDGES = [0, 1, FRAME_BYTES - 1, FRAME_BYTES, FRAME_BYTES + 1, 2 * FRAME_BYTES, 3 * FRAME_BYTES + 17]


@pytest.fixture
def cipher() -> Cipher:
    return Cipher(KEY, new_key())


def content_of(size: int) -> bytes:
    return (bytes(range(251)) * (size // 251 + 1))[:size]


def closed(cipher: Cipher, content: bytes, piece: int = 50_000, context: bytes = HERE) -> bytes:
    stored = bytearray()
    writer = FrameWriter(cipher, context, lambda data: stored.extend(data))
    for at in range(0, len(content), piece):
        writer.write(memoryview(content)[at : at + piece])
    writer.finish()
    return bytes(stored)


def opened(
    cipher: Cipher, stored: bytes, start: int = 0, end: int | None = None, cut: int = 10_000, context: bytes = HERE
) -> bytes:
    """The range, read as a store would read it: the size from what is there, the bytes in pieces."""
    size = content_size(len(stored))
    if size is None:
        raise Corrupt("no stream has this length")
    asked = span(size, start, end)
    there = stored[asked.start : asked.end]
    pieces = (there[at : at + cut] for at in range(0, len(there), cut))
    return b"".join(open_span(cipher, context, asked, pieces))


def test_a_value_comes_back(cipher: Cipher) -> None:
    for value in (b"", b"x", bytes(100_000)):
        assert cipher.open(cipher.close(value, b"row 1"), b"row 1") == value


def test_a_value_is_never_encrypted_the_same_way_twice(cipher: Cipher) -> None:
    assert len({cipher.close(b"same", b"row 1") for _ in range(1000)}) == 1000


def test_a_value_does_not_show(cipher: Cipher) -> None:
    assert b"in plain sight" not in cipher.close(b"in plain sight", b"row 1")


def test_a_value_opens_nowhere_else(cipher: Cipher) -> None:
    stored = cipher.close(b"value", b"row 1")
    with pytest.raises(Corrupt, match=KEY):
        cipher.open(stored, b"row 2")


def test_a_value_opens_with_no_other_key(cipher: Cipher) -> None:
    with pytest.raises(Corrupt):
        Cipher(KEY, new_key()).open(cipher.close(b"value", b"row 1"), b"row 1")


def test_each_flipped_bit_of_a_value_is_noticed(cipher: Cipher) -> None:
    stored = cipher.close(b"value", b"row 1")
    for at in range(8 * len(stored)):
        changed = bytearray(stored)
        changed[at // 8] ^= 1 << at % 8
        with pytest.raises(Corrupt):
            cipher.open(bytes(changed), b"row 1")


def test_a_value_that_is_cut_off_is_noticed(cipher: Cipher) -> None:
    stored = cipher.close(b"value", b"row 1")
    for length in range(len(stored)):
        with pytest.raises(Corrupt):
            cipher.open(stored[:length], b"row 1")


def test_the_mark_begins_nothing_that_is_stored_in_the_clear() -> None:
    assert MARK not in (b"\x01", b"j", b"z")  # chunks of history; rows as they are, and compressed


@pytest.mark.parametrize("size", EDGES)
@pytest.mark.parametrize("piece", [1_000, FRAME_BYTES, 200_000])
def test_a_stream_comes_back_whole(cipher: Cipher, size: int, piece: int) -> None:
    content = content_of(size)
    stored = closed(cipher, content, piece)
    assert opened(cipher, stored) == content
    assert len(stored) == stored_size(size)
    assert content_size(len(stored)) == size


@given(size=st.integers(0, 10 * FRAME_BYTES))
def test_the_size_of_a_stream_tells_that_of_its_content(size: int) -> None:
    assert content_size(stored_size(size)) == size


@given(stored=st.integers(0, 3 * FRAME_BYTES))
def test_a_length_that_no_stream_has_is_no_size(stored: int) -> None:
    size = content_size(stored)
    assert size is None or stored_size(size) == stored


CIPHER = Cipher(KEY, bytes(range(32)))
CONTENT = content_of(3 * FRAME_BYTES + 1234)
STORED = closed(CIPHER, CONTENT)
near_edges = st.builds(
    lambda frame, off: max(0, frame * FRAME_BYTES + off), st.integers(0, 4), st.integers(-3, 3)
) | st.integers(0, len(CONTENT) + 10)


@given(start=near_edges, end=st.none() | near_edges, cut=st.integers(1_000, 200_000))
def test_a_range_is_what_a_slice_is(start: int, end: int | None, cut: int) -> None:
    assert opened(CIPHER, STORED, start, end, cut) == CONTENT[start:end]


@given(start=near_edges, end=near_edges)
def test_a_range_fetches_no_more_than_its_frames(start: int, end: int) -> None:
    asked = span(len(CONTENT), start, end)
    frames = max(0, min(end, len(CONTENT)) - min(start, len(CONTENT))) // FRAME_BYTES + 2
    assert asked.end - asked.start <= frames * (FRAME_BYTES + TAG_BYTES)


@given(at=st.integers(len(MAGIC), len(STORED) - 1), bit=st.integers(0, 7))
def test_a_flipped_bit_of_a_stream_is_noticed(at: int, bit: int) -> None:
    changed = bytearray(STORED)
    changed[at] ^= 1 << bit
    with pytest.raises(Corrupt, match="cut off or changed"):
        opened(CIPHER, bytes(changed))


@given(length=st.integers(0, len(STORED) - 1))
def test_a_stream_that_is_cut_off_anywhere_is_noticed(length: int) -> None:
    with pytest.raises(Corrupt):
        opened(CIPHER, STORED[:length])


def test_a_stream_that_is_cut_between_two_frames_is_noticed() -> None:
    with pytest.raises(Corrupt):
        opened(CIPHER, STORED[: len(MAGIC) + 2 * (FRAME_BYTES + TAG_BYTES)])


def test_a_store_that_gives_less_than_its_size_says_is_noticed() -> None:
    asked = span(len(CONTENT), 0, None)
    with pytest.raises(Corrupt):
        list(open_span(CIPHER, HERE, asked, [STORED[asked.start : asked.end - 1]]))


def frame(number: int, stored: bytes = STORED) -> bytes:
    at = len(MAGIC) + number * (FRAME_BYTES + TAG_BYTES)
    return stored[at : at + FRAME_BYTES + TAG_BYTES]


@pytest.mark.parametrize("order", [(1, 0, 2, 3), (0, 0, 2, 3), (0, 2, 1, 3), (2, 1, 0, 3)])
def test_frames_in_another_order_are_noticed(order: tuple[int, ...]) -> None:
    with pytest.raises(Corrupt):
        opened(CIPHER, MAGIC + b"".join(frame(number) for number in order))


def test_a_frame_of_another_blob_is_noticed(cipher: Cipher) -> None:
    elsewhere = closed(CIPHER, CONTENT, context=b"blob\0there")
    other_key = closed(cipher, CONTENT)
    for foreign in (elsewhere, other_key):
        mixed = MAGIC + frame(0) + frame(1, foreign) + frame(2) + frame(3)
        with pytest.raises(Corrupt):
            opened(CIPHER, mixed)


def test_a_stream_is_bound_to_its_place() -> None:
    with pytest.raises(Corrupt):
        opened(CIPHER, STORED, context=b"blob\0there")


def test_no_two_frames_of_a_stream_have_one_nonce() -> None:
    """Equal frames would be equal ciphertext if they had."""
    stored = closed(CIPHER, bytes(4 * FRAME_BYTES))
    assert len({frame(number, stored)[:64] for number in range(4)}) == 4

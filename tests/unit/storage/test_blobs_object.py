"""What object stores do that none at hand does by itself: refuse a copy, lose a race, delete less than was asked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import obstore
import pytest
from obstore.exceptions import GenericError
from obstore.store import MemoryStore

from labkeep.core.errors import Unavailable
from labkeep.storage.blobs_object import ObjectBlobs
from labkeep.testing.blobs import SPACE, digest_of

LIMIT = 1000


@pytest.fixture
def blobs() -> Iterator[ObjectBlobs]:
    store = ObjectBlobs(MemoryStore(), small_bytes=100, part_bytes=5 << 20, copy_bytes=LIMIT)
    yield store
    store.close()


@pytest.fixture
def _no_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """As S3 answers above 5 GiB."""

    def refuse(*arguments: Any) -> None:
        raise GenericError("EntityTooLarge: the specified copy source is larger than the maximum")

    monkeypatch.setattr(obstore, "copy", refuse)


@pytest.mark.usefixtures("_no_copies")
def test_what_is_too_large_for_a_copy_by_the_store_is_copied_by_reading(blobs: ObjectBlobs) -> None:
    data = bytes(LIMIT + 1)
    assert blobs.put(SPACE, data).digest == digest_of(data)
    assert blobs.read_all(SPACE, digest_of(data)) == data
    assert blobs.sweep_uploads(0) == 0


@pytest.mark.usefixtures("_no_copies")
def test_a_copy_that_fails_is_unavailable_and_leaves_nothing(blobs: ObjectBlobs) -> None:
    with pytest.raises(Unavailable):
        blobs.put(SPACE, bytes(LIMIT))
    assert list(blobs.list()) == []
    assert blobs.sweep_uploads(0) == 0


def test_a_copy_by_reading_that_fails_leaves_nothing(blobs: ObjectBlobs, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise GenericError("reset by peer")

    monkeypatch.setattr(obstore, "get_range", fail)
    with pytest.raises(Unavailable):
        blobs.put(SPACE, bytes(LIMIT + 1))
    assert list(blobs.list()) == []
    assert blobs.sweep_uploads(0) == 0


@pytest.mark.parametrize(("lost", "kept"), [(0, True), (1, True), (4, True), (5, False)])
def test_an_upload_that_loses_against_a_deletion_is_sent_again(
    blobs: ObjectBlobs, monkeypatch: pytest.MonkeyPatch, lost: int, kept: bool
) -> None:
    put, sent = obstore.put, iter(range(100))

    def lose(*arguments: Any, **options: Any) -> Any:
        if next(sent) < lost:
            raise GenericError("Unable to extract metadata from headers: ETag Header missing from response")
        return put(*arguments, **options)

    monkeypatch.setattr(obstore, "put", lose)
    if kept:
        assert blobs.read_all(SPACE, blobs.put(SPACE, b"raced").digest) == b"raced"
    else:
        with pytest.raises(Unavailable):
            blobs.put(SPACE, b"raced")


def test_any_other_failure_is_not_sent_again(blobs: ObjectBlobs, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = []

    def fail(*arguments: Any, **options: Any) -> Any:
        sent.append(arguments)
        raise GenericError("Server returned non-2xx status code: 503 Service Unavailable")

    monkeypatch.setattr(obstore, "put", fail)
    with pytest.raises(Unavailable):
        blobs.put(SPACE, b"small")
    assert len(sent) == 1


def test_what_vanishes_between_the_question_and_the_deletion_does_not_keep_the_rest(
    blobs: ObjectBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = [blobs.put(SPACE, str(number).encode()).digest for number in range(5)]
    delete = obstore.delete

    def missing_in_a_batch(store: Any, keys: Any) -> None:
        if not isinstance(keys, str):
            raise FileNotFoundError("one of them is gone")
        delete(store, keys)

    monkeypatch.setattr(obstore, "delete", missing_in_a_batch)
    assert blobs.delete(SPACE, digests) == 5
    assert list(blobs.list()) == []

"""Every store against a dict: whatever is done in whatever order, both hold the same."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule, run_state_machine_as_test
from obstore.store import MemoryStore

from labkeep.core.errors import Invalid, NotFound
from labkeep.storage.blobs import Blobs, MemoryBlobs, Upload
from labkeep.storage.blobs_local import LocalBlobs
from labkeep.storage.blobs_object import ObjectBlobs
from labkeep.testing.blobs import ABSENT, digest_of

spaces = st.sampled_from(["a", "ab", "tmp"])
contents = st.sampled_from([b"", b"a", b"b", b"ab", bytes(50)])  # few, so that they meet again
bounds = st.integers(0, 60)


class BlobsMachine(RuleBasedStateMachine):
    """``make`` gives an empty store and what cleans up after it."""

    make: Callable[[], tuple[Blobs, Callable[[], Any]]]
    uploads = Bundle("uploads")

    def __init__(self) -> None:
        super().__init__()
        self.blobs, self._clean = type(self).make()
        self.model: dict[tuple[str, str], bytes] = {}
        self.begun: list[Upload] = []

    def teardown(self) -> None:
        for upload in self.begun:
            upload.abort()
        self.blobs.close()
        self._clean()

    @rule(space=spaces, data=contents)
    def put(self, space: str, data: bytes) -> None:
        stored = self.blobs.put(space, data)
        assert (stored.digest, stored.size) == (digest_of(data), len(data))
        self.model[space, stored.digest] = data

    @rule(target=uploads, space=spaces)
    def begin(self, space: str) -> tuple[Upload, list[bytes]]:
        self.begun.append(self.blobs.begin(space))
        return self.begun[-1], []

    @rule(upload=uploads, data=contents)
    def write(self, upload: tuple[Upload, list[bytes]], data: bytes) -> None:
        upload[0].write(data)
        upload[1].append(data)

    @rule(upload=consumes(uploads), expected=st.sampled_from(["none", "right", "wrong"]))
    def finish(self, upload: tuple[Upload, list[bytes]], expected: str) -> None:
        data = b"".join(upload[1])
        digest = digest_of(data)
        if expected == "wrong":
            with pytest.raises(Invalid):
                upload[0].finish(ABSENT)
            return
        assert upload[0].finish(digest if expected == "right" else None).digest == digest
        self.model[upload[0].space, digest] = data

    @rule(upload=consumes(uploads))
    def abort(self, upload: tuple[Upload, list[bytes]]) -> None:
        upload[0].abort()

    @rule(space=spaces, data=st.lists(contents, max_size=4))
    def delete(self, space: str, data: list[bytes]) -> None:
        keys = {(space, digest_of(each)) for each in data}
        there = sum(self.model.pop(key, None) is not None for key in keys)
        assert self.blobs.delete(space, [digest_of(each) for each in data]) == there

    @rule(space=spaces, data=contents, start=bounds, end=st.none() | bounds)
    def read(self, space: str, data: bytes, start: int, end: int | None) -> None:
        digest = digest_of(data)
        if (space, digest) not in self.model:
            with pytest.raises(NotFound):
                self.blobs.read(space, digest, start, end)
            return
        assert b"".join(self.blobs.read(space, digest, start, end)) == data[start:end]
        assert self.blobs.size(space, digest) == len(data)
        assert self.blobs.verify(space, digest)

    @rule()
    def sweep(self) -> None:
        assert self.blobs.sweep_uploads(3600) == 0

    @invariant()
    def both_list_the_same(self) -> None:
        listed = [((one.space, one.digest), one.size) for one in self.blobs.list()]
        assert sorted(listed) == sorted((key, len(data)) for key, data in self.model.items())


def _memory() -> tuple[Blobs, Callable[[], Any]]:
    return MemoryBlobs(), lambda: None


def _local() -> tuple[Blobs, Callable[[], Any]]:
    folder = tempfile.TemporaryDirectory()
    return LocalBlobs(folder.name), folder.cleanup


def _object() -> tuple[Blobs, Callable[[], Any]]:
    return ObjectBlobs(MemoryStore(), "prefix", small_bytes=40, part_bytes=5 << 20, copy_bytes=60), lambda: None


@pytest.mark.parametrize("make", [_memory, _local, _object])
def test_a_store_holds_what_a_dict_would(make: Callable[[], tuple[Blobs, Callable[[], Any]]]) -> None:
    machine = type("Machine", (BlobsMachine,), {"make": staticmethod(make)})
    run_state_machine_as_test(machine, settings=settings(max_examples=40, stateful_step_count=30, deadline=None))

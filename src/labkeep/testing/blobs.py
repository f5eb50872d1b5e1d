"""The tests that every blob store passes. A new one proves itself with a class of its own:

class TestMyBlobs(BlobsTests):
    @pytest.fixture
    def blobs(self) -> Iterator[Blobs]:
        store = MyBlobs(...)    # empty
        yield store
        store.close()
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from labkeep.core.errors import Invalid, NotFound
from labkeep.storage.blobs import PIECE_BYTES, Blobs, Listed, Stored

SPACE = "018f7a2e-0000-7000-8000-000000000001"
OTHER_SPACE = "018f7a2e-0000-7000-8000-000000000002"
ABSENT = "sha256:" + "0" * 64
BIG_BYTES = 20 * 1024 * 1024 + 12_345

HOSTILE_SPACES = [
    *("", ".", "..", "../up", "a/b", "a/../b", "/absolute", "a\\b", "_tmp", "_", "a.b", "a b", "a\n", "\n", "a\0"),
    *("Upper", "ä", "\N{ARABIC-INDIC DIGIT ONE}", "~", "%2e%2e", "*", "a" * 65, "a" * 10_000),
]
HOSTILE_DIGESTS = [
    *("", "sha256:", "0" * 64, "sha256:" + "0" * 63, "sha256:" + "0" * 65, "sha256:" + "A" * 64, "md5:" + "0" * 32),
    *("sha256:" + "0" * 64 + "\n", "sha256:../" + "0" * 61, "sha256:" + "0" * 61 + "/..", "SHA256:" + "0" * 64),
    *("sha512:" + "0" * 64, "sha256:" + "\N{ARABIC-INDIC DIGIT ONE}" * 64, "../../etc/passwd", " sha256:" + "0" * 64),
]


def digest_of(data: bytes) -> str:
    """``sha256:…`` of ``data``, computed apart from the store."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def big_pieces(size: int = BIG_BYTES, piece: int = 333_333) -> Iterator[bytes]:
    """``size`` bytes in which no two of the pieces are alike."""
    for start in range(0, size, piece):
        block = hashlib.sha256(str(start).encode()).digest()
        yield (block * (piece // len(block) + 1))[: min(piece, size - start)]


class BlobsTests:
    """Subclass it and override ``blobs``; see the module."""

    @pytest.fixture
    def blobs(self) -> Iterator[Blobs]:
        """An empty store, closed afterwards."""
        raise NotImplementedError("override the fixture `blobs`")

    def leave_behind(self, blobs: Blobs) -> int:
        """Leave in the store what a crash in the middle of an upload leaves; returns how many sweepable things."""
        return 0

    # Storing

    def test_what_is_put_is_read_back_under_its_sha256(self, blobs: Blobs) -> None:
        stored = blobs.put(SPACE, b"seven of nine")
        assert stored == Stored(digest_of(b"seven of nine"), 13)
        assert blobs.read_all(SPACE, stored.digest) == b"seven of nine"
        assert blobs.size(SPACE, stored.digest) == 13

    def test_zero_bytes_are_a_blob_too(self, blobs: Blobs) -> None:
        stored = blobs.put(SPACE, b"")
        assert stored == Stored(digest_of(b""), 0)
        assert list(blobs.read(SPACE, stored.digest)) == []
        assert list(blobs.read(SPACE, stored.digest, 0, 10)) == []
        assert blobs.size(SPACE, stored.digest) == 0
        assert blobs.verify(SPACE, stored.digest)
        assert blobs.delete(SPACE, [stored.digest]) == 1

    def test_every_byte_value_survives(self, blobs: Blobs) -> None:
        data = bytes(range(256)) * 3
        assert blobs.read_all(SPACE, blobs.put(SPACE, data).digest) == data

    def test_an_upload_takes_bytes_and_views_in_any_cut(self, blobs: Blobs) -> None:
        data = bytes(range(256))
        with blobs.begin(SPACE) as upload:
            upload.write(data[:1])
            upload.write(b"")
            upload.write(memoryview(data)[1:100])
            upload.write(memoryview(bytearray(data))[100:])
            stored = upload.finish()
        assert stored == Stored(digest_of(data), 256)
        assert blobs.read_all(SPACE, stored.digest) == data

    def test_a_buffer_may_be_used_again_once_it_was_written(self, blobs: Blobs) -> None:
        buffer = bytearray(b"first ")
        with blobs.begin(SPACE) as upload:
            upload.write(memoryview(buffer))
            buffer[:] = b"second"
            upload.write(memoryview(buffer))
            stored = upload.finish()
        assert blobs.read_all(SPACE, stored.digest) == b"first second"

    def test_a_big_blob_is_streamed_in_and_out(self, blobs: Blobs) -> None:
        reference = hashlib.sha256()
        with blobs.begin(SPACE) as upload:
            for piece in big_pieces():
                reference.update(piece)
                upload.write(piece)
            stored = upload.finish()
        assert stored == Stored(f"sha256:{reference.hexdigest()}", BIG_BYTES)
        assert blobs.size(SPACE, stored.digest) == BIG_BYTES

        found, lengths = hashlib.sha256(), []
        for piece in blobs.read(SPACE, stored.digest):
            found.update(piece)
            lengths.append(len(piece))
        assert found.digest() == reference.digest()
        assert max(lengths) <= PIECE_BYTES
        assert min(lengths) > 0
        assert blobs.verify(SPACE, stored.digest)
        assert [listed.digest for listed in blobs.list(SPACE)] == [stored.digest]
        assert blobs.sweep_uploads(0) == 0
        assert blobs.delete(SPACE, [stored.digest]) == 1

    def test_a_range_in_the_middle_of_a_big_blob_is_exact(self, blobs: Blobs) -> None:
        data = b"".join(big_pieces())
        digest = blobs.put(SPACE, data).digest
        assert digest == digest_of(data)
        for start, end in [(8 << 20, (16 << 20) + 1), (12_345_678, 12_345_679), (BIG_BYTES - 5, BIG_BYTES + 5)]:
            assert b"".join(blobs.read(SPACE, digest, start, end)) == data[start:end]
        assert b"".join(blobs.read(SPACE, digest, 10 << 20)) == data[10 << 20 :]

    def test_the_expected_digest_is_accepted(self, blobs: Blobs) -> None:
        with blobs.begin(SPACE) as upload:
            upload.write(b"as promised")
            assert upload.finish(digest_of(b"as promised")).size == 11

    def test_another_digest_than_expected_keeps_nothing(self, blobs: Blobs) -> None:
        with blobs.begin(SPACE) as upload:
            upload.write(b"not as promised")
            with pytest.raises(Invalid, match="nothing was kept"):
                upload.finish(ABSENT)
        self._assert_empty(blobs)

    def test_another_digest_than_expected_keeps_nothing_of_a_big_upload(self, blobs: Blobs) -> None:
        with blobs.begin(SPACE) as upload:
            for piece in big_pieces():
                upload.write(piece)
            with pytest.raises(Invalid):
                upload.finish(ABSENT)
        self._assert_empty(blobs)

    @pytest.mark.parametrize("digest", HOSTILE_DIGESTS)
    def test_a_malformed_expected_digest_is_refused(self, blobs: Blobs, digest: str) -> None:
        with blobs.begin(SPACE) as upload, pytest.raises(Invalid):
            upload.finish(digest)
        self._assert_empty(blobs)

    @pytest.mark.parametrize("size", [0, 10, BIG_BYTES])
    def test_an_aborted_upload_leaves_nothing(self, blobs: Blobs, size: int) -> None:
        upload = blobs.begin(SPACE)
        for piece in big_pieces(size):
            upload.write(piece)
        upload.abort()
        upload.abort()
        self._assert_empty(blobs)

    @pytest.mark.parametrize("size", [0, 10, BIG_BYTES])
    def test_an_upload_that_is_left_by_an_error_leaves_nothing(self, blobs: Blobs, size: int) -> None:
        with pytest.raises(ConnectionResetError), blobs.begin(SPACE) as upload:  # noqa: PT012 - the client goes away
            for piece in big_pieces(size):
                upload.write(piece)
            raise ConnectionResetError
        self._assert_empty(blobs)

    def test_an_ended_upload_takes_nothing_more(self, blobs: Blobs) -> None:
        finished, aborted = blobs.begin(SPACE), blobs.begin(SPACE)
        finished.finish()
        aborted.abort()
        for upload in (finished, aborted):
            with pytest.raises(ValueError, match="finished or aborted"):
                upload.write(b"late")
            with pytest.raises(ValueError, match="finished or aborted"):
                upload.finish()
            upload.abort()
        assert blobs.size(SPACE, digest_of(b"")) == 0

    # One copy a space

    def test_the_same_bytes_are_stored_once(self, blobs: Blobs) -> None:
        first = blobs.put(SPACE, b"twice")
        assert blobs.put(SPACE, b"twice") == first
        assert len(list(blobs.list())) == 1
        assert blobs.delete(SPACE, [first.digest]) == 1
        assert blobs.delete(SPACE, [first.digest]) == 0

    def test_uploading_again_renews_the_time(self, blobs: Blobs) -> None:
        """A store that skipped what it has already could lose it to a deletion that had looked at its age before."""
        digest = blobs.put(SPACE, b"again").digest
        (first,) = blobs.list(SPACE)
        for _ in range(5000):  # until the store's clock ticks: some count in seconds
            assert blobs.put(SPACE, b"again").digest == digest
            (last,) = blobs.list(SPACE)
            if last.modified_at > first.modified_at:
                break
        assert last.modified_at > first.modified_at

    def test_spaces_never_share(self, blobs: Blobs) -> None:
        digest = blobs.put(SPACE, b"mine").digest
        with pytest.raises(NotFound):
            blobs.read(OTHER_SPACE, digest)
        with pytest.raises(NotFound):
            blobs.size(OTHER_SPACE, digest)
        assert blobs.delete(OTHER_SPACE, [digest]) == 0
        blobs.put(OTHER_SPACE, b"mine")
        assert {listed.space for listed in blobs.list()} == {SPACE, OTHER_SPACE}
        assert blobs.delete(OTHER_SPACE, [digest]) == 1
        assert blobs.read_all(SPACE, digest) == b"mine"

    def test_a_space_whose_name_begins_like_another_is_another(self, blobs: Blobs) -> None:
        blobs.put("a", b"1")
        blobs.put("ab", b"2")
        blobs.put("a-b", b"3")
        assert [listed.space for listed in blobs.list("a")] == ["a"]

    def test_a_space_may_be_called_tmp(self, blobs: Blobs) -> None:
        digest = blobs.put("tmp", b"kept").digest
        assert blobs.sweep_uploads(0) == 0
        assert blobs.read_all("tmp", digest) == b"kept"

    # Reading

    @pytest.mark.parametrize(
        ("start", "end"),
        [
            (0, None),
            (0, 10),
            (3, 7),
            (3, None),
            (9, 10),
            (0, 0),
            (4, 4),
            (7, 3),
            (10, None),
            (10, 20),
            (99, 999),
            (8, 99),
        ],
    )
    def test_a_range_is_what_a_slice_is(self, blobs: Blobs, start: int, end: int | None) -> None:
        digest = blobs.put(SPACE, b"0123456789").digest
        assert b"".join(blobs.read(SPACE, digest, start, end)) == b"0123456789"[start:end]

    @pytest.mark.parametrize(("start", "end"), [(-1, None), (0, -1), (-5, -1), (-3, 5)])
    def test_a_negative_range_is_refused(self, blobs: Blobs, start: int, end: int | None) -> None:
        digest = blobs.put(SPACE, b"0123456789").digest
        with pytest.raises(Invalid):
            blobs.read(SPACE, digest, start, end)

    @pytest.mark.parametrize(("start", "end"), [(0, None), (0, 0), (5, 5), (99, None)])
    def test_reading_what_is_missing_fails_at_once(self, blobs: Blobs, start: int, end: int | None) -> None:
        with pytest.raises(NotFound) as caught:
            blobs.read(SPACE, ABSENT, start, end)
        assert caught.value.details["digest"] == ABSENT

    @pytest.mark.parametrize("method", [Blobs.size, Blobs.verify, Blobs.read_all])
    def test_what_is_missing_is_not_found(self, blobs: Blobs, method: Callable[[Blobs, str, str], object]) -> None:
        with pytest.raises(NotFound):
            getattr(blobs, method.__name__)(SPACE, ABSENT)

    def test_a_reader_may_stop_in_the_middle(self, blobs: Blobs) -> None:
        digest = blobs.put(SPACE, bytes(3 * PIECE_BYTES)).digest
        pieces = blobs.read(SPACE, digest)
        assert len(next(pieces)) <= PIECE_BYTES
        del pieces
        assert blobs.delete(SPACE, [digest]) == 1

    def test_two_readers_of_one_blob_do_not_disturb_each_other(self, blobs: Blobs) -> None:
        data = b"".join(big_pieces(3 * PIECE_BYTES))
        digest = blobs.put(SPACE, data).digest
        pairs = list(zip(blobs.read(SPACE, digest), blobs.read(SPACE, digest), strict=True))
        assert b"".join(one for one, _ in pairs) == data
        assert all(one == other for one, other in pairs)

    def test_a_store_with_files_shows_the_blobs_own(self, blobs: Blobs) -> None:
        digest = blobs.put(SPACE, b"to be mapped").digest
        path = blobs.path(SPACE, digest)
        assert path is None or path.read_bytes() == b"to be mapped"

    def test_an_intact_blob_verifies(self, blobs: Blobs) -> None:
        assert blobs.verify(SPACE, blobs.put(SPACE, b"intact").digest)

    # Names that a caller makes up

    @pytest.mark.parametrize("space", HOSTILE_SPACES)
    def test_a_hostile_space_is_refused_everywhere(self, blobs: Blobs, space: str) -> None:
        self._assert_refused(blobs, space, ABSENT)
        calls = (
            lambda: blobs.begin(space),
            lambda: blobs.put(space, b"x"),
            lambda: blobs.list(space),
            lambda: blobs.delete(space, []),
        )
        for call in calls:
            with pytest.raises(Invalid):
                call()
        self._assert_empty(blobs)

    @pytest.mark.parametrize("digest", HOSTILE_DIGESTS)
    def test_a_hostile_digest_is_refused_everywhere(self, blobs: Blobs, digest: str) -> None:
        self._assert_refused(blobs, SPACE, digest)

    def test_one_hostile_digest_among_many_deletes_nothing(self, blobs: Blobs) -> None:
        digest = blobs.put(SPACE, b"stays").digest
        with pytest.raises(Invalid):
            blobs.delete(SPACE, [digest, "sha256:../.."])
        assert blobs.read_all(SPACE, digest) == b"stays"

    @pytest.mark.parametrize("space", ["0", "-", "--", "a" * 64, "0123456789abcdef"])
    def test_every_name_of_the_alphabet_is_a_space(self, blobs: Blobs, space: str) -> None:
        digest = blobs.put(space, b"here").digest
        assert [listed.space for listed in blobs.list()] == [space]
        assert blobs.read_all(space, digest) == b"here"

    # Deleting

    def test_what_is_deleted_is_gone(self, blobs: Blobs) -> None:
        digest = blobs.put(SPACE, b"gone").digest
        assert blobs.delete(SPACE, [digest]) == 1
        with pytest.raises(NotFound):
            blobs.read(SPACE, digest)
        self._assert_empty(blobs)

    def test_deleting_counts_what_there_was(self, blobs: Blobs) -> None:
        digests = [blobs.put(SPACE, str(number).encode()).digest for number in range(20)]
        kept = blobs.put(SPACE, b"kept").digest
        assert blobs.delete(SPACE, iter([*digests[:12], ABSENT, digests[0]])) == 12
        assert blobs.delete(SPACE, digests) == 8
        assert blobs.delete(SPACE, []) == 0
        assert [listed.digest for listed in blobs.list()] == [kept]

    def test_what_was_deleted_can_be_stored_again(self, blobs: Blobs) -> None:
        digest = blobs.put(SPACE, b"phoenix").digest
        blobs.delete(SPACE, [digest])
        assert blobs.put(SPACE, b"phoenix").digest == digest
        assert blobs.read_all(SPACE, digest) == b"phoenix"

    @pytest.mark.parametrize("size", [10, BIG_BYTES])
    def test_a_blob_deleted_during_its_second_upload_is_there_when_that_finishes(self, blobs: Blobs, size: int) -> None:
        data = b"".join(big_pieces(size))
        digest = blobs.put(SPACE, data).digest
        with blobs.begin(SPACE) as upload:
            upload.write(data)
            assert blobs.delete(SPACE, [digest]) == 1
            upload.finish(digest)
        assert blobs.read_all(SPACE, digest) == data

    # Listing

    def test_an_empty_store_lists_nothing(self, blobs: Blobs) -> None:
        self._assert_empty(blobs)
        assert list(blobs.list(SPACE)) == []

    def test_a_listing_names_every_blob_of_every_space(self, blobs: Blobs) -> None:
        before = datetime.now(UTC) - timedelta(seconds=5)
        expected = {
            (space, blobs.put(space, data).digest, len(data))
            for space in (SPACE, OTHER_SPACE)
            for data in (bytes(number) for number in range(15))
        }
        listed = list(blobs.list())
        assert sorted(_identity(one) for one in listed) == sorted(expected)
        assert sorted(_identity(one) for one in blobs.list(SPACE)) == sorted(one for one in expected if one[0] == SPACE)
        assert all(before <= one.modified_at <= datetime.now(UTC) + timedelta(seconds=5) for one in listed)

    def test_an_upload_in_progress_is_not_listed(self, blobs: Blobs) -> None:
        with blobs.begin(SPACE) as upload:
            for piece in big_pieces():
                upload.write(piece)
            self._assert_empty(blobs)
            upload.finish()
        assert len(list(blobs.list())) == 1

    def test_a_listing_may_be_left_in_the_middle(self, blobs: Blobs) -> None:
        for number in range(3):
            blobs.put(SPACE, bytes([number]))
        assert next(iter(blobs.list())).size == 1

    def test_what_is_listed_may_be_deleted_on_the_way(self, blobs: Blobs) -> None:
        for number in range(20):
            blobs.put(SPACE, bytes([number]))
        assert sum(blobs.delete(one.space, [one.digest]) for one in blobs.list()) == 20
        self._assert_empty(blobs)

    # Crashes

    def test_what_a_crash_leaves_is_not_seen_and_can_be_swept(self, blobs: Blobs) -> None:
        kept = blobs.put(SPACE, b"kept").digest
        leftovers = self.leave_behind(blobs)
        assert [listed.digest for listed in blobs.list()] == [kept]
        assert blobs.sweep_uploads(3600) == 0
        assert blobs.sweep_uploads(0) == leftovers
        assert blobs.sweep_uploads(0) == 0
        assert blobs.read_all(SPACE, kept) == b"kept"

    def test_sweeping_leaves_a_young_upload_alone(self, blobs: Blobs) -> None:
        with blobs.begin(SPACE) as upload:
            for piece in big_pieces():
                upload.write(piece)
            assert blobs.sweep_uploads(3600) == 0
            stored = upload.finish()
        assert blobs.verify(SPACE, stored.digest)

    # Many at once

    def test_many_uploads_run_side_by_side(self, blobs: Blobs) -> None:
        data = [str(number).encode() * 1000 for number in range(24)]
        with ThreadPoolExecutor(8) as pool:
            stored = list(pool.map(lambda one: blobs.put(SPACE, one), data))
        assert [one.digest for one in stored] == [digest_of(one) for one in data]
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(lambda one: blobs.read_all(SPACE, one.digest), stored)) == data

    def test_one_content_may_be_uploaded_and_deleted_at_the_same_time(self, blobs: Blobs) -> None:
        """Never an error, never other bytes, and no deletion without an upload that it undid."""
        data, digest = b"contended" * 500, digest_of(b"contended" * 500)
        over = threading.Event()

        def upload() -> int:
            return sum(blobs.put(SPACE, data).digest == digest for _ in range(10))

        def delete() -> int:
            deleted = 0
            while not over.is_set():
                deleted += blobs.delete(SPACE, [digest])
            return deleted

        def read() -> int:
            wrong = 0
            while not over.is_set():
                try:
                    wrong += blobs.read_all(SPACE, digest) != data
                except NotFound:
                    continue
            return wrong

        with ThreadPoolExecutor(6) as pool:
            deleting, reading = pool.submit(delete), pool.submit(read)
            uploads = [pool.submit(upload) for _ in range(4)]
            try:
                finished = sum(one.result() for one in uploads)
            finally:
                over.set()
            deleted, wrong = deleting.result(), reading.result()
        assert (finished, wrong) == (40, 0)
        assert deleted + blobs.delete(SPACE, [digest]) <= finished
        assert blobs.put(SPACE, data).digest == digest
        assert blobs.read_all(SPACE, digest) == data
        assert blobs.sweep_uploads(0) == 0

    def test_every_upload_counts_when_deletions_take_turns(self, blobs: Blobs) -> None:
        """Two uploads race; whichever deletion falls between their starts, after both the content is there."""
        data, digest = b"raced" * 500, digest_of(b"raced" * 500)
        for _ in range(8):
            start = threading.Barrier(3)

            def upload(start: threading.Barrier = start) -> None:
                with blobs.begin(SPACE) as one:
                    one.write(data)
                    start.wait(timeout=60)
                    one.finish(digest)

            with ThreadPoolExecutor(2) as pool:
                uploads = [pool.submit(upload) for _ in range(2)]
                blobs.delete(SPACE, [digest])
                start.wait(timeout=60)
                for one in uploads:
                    one.result()
            assert blobs.read_all(SPACE, digest) == data

    def _assert_empty(self, blobs: Blobs) -> None:
        assert list(blobs.list()) == []
        assert blobs.sweep_uploads(3600) == 0

    def _assert_refused(self, blobs: Blobs, space: str, digest: str) -> None:
        for call in (
            lambda: blobs.read(space, digest),
            lambda: blobs.read_all(space, digest),
            lambda: blobs.path(space, digest),
            lambda: blobs.size(space, digest),
            lambda: blobs.verify(space, digest),
            lambda: blobs.delete(space, [digest]),
        ):
            with pytest.raises(Invalid):
                call()


def _identity(listed: Listed) -> tuple[str, str, int]:
    return listed.space, listed.digest, listed.size

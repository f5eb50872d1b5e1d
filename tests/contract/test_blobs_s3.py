"""The contract over a real S3 API, and what only a real server shows: parts, outages, wrong keys, missing buckets."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from labkeep.core.errors import LabkeepError, NotFound, Unavailable
from labkeep.storage.blobs import Blobs
from labkeep.storage.blobs_object import SMALL_BYTES
from labkeep.storage.opening import open_blobs
from labkeep.testing.blobs import ABSENT, BIG_BYTES, SPACE, BlobsTests, big_pieces, digest_of
from tests.contract.encrypted_blobs import NamedByContent
from tests.contract.swift_server import SwiftServer

BUCKET = "blobs"
IMPATIENT = {"max_retries": 1, "retry_timeout_s": 2}


@pytest.fixture(scope="module")
def swift(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SwiftServer]:
    with SwiftServer(tmp_path_factory.mktemp("swift")) as server:
        server.create_bucket(BUCKET)
        yield server


@pytest.fixture
def prefix() -> str:
    return f"prefix/{uuid4().hex}"


@pytest.fixture
def blobs(swift: SwiftServer, prefix: str) -> Iterator[Blobs]:
    store = open_blobs(f"s3://{BUCKET}/{prefix}", **swift.options())
    yield store
    store.close()


class TestS3Blobs(BlobsTests):
    @pytest.fixture(autouse=True)
    def _remember(self, swift: SwiftServer, prefix: str) -> None:
        self.client = swift.client()
        self.prefix = prefix

    @pytest.fixture
    def blobs(self, swift: SwiftServer, prefix: str) -> Iterator[Blobs]:
        store = open_blobs(f"s3://{BUCKET}/{prefix}", **swift.options())
        yield store
        store.close()

    def leave_behind(self, blobs: Blobs) -> int:
        self.client.put_object(Bucket=BUCKET, Key=f"{self.prefix}/_tmp/0123", Body=b"complete and never copied")
        return 1


class TestEncryptedS3Blobs(BlobsTests):
    @pytest.fixture
    def blobs(self, swift: SwiftServer, prefix: str) -> Iterator[Blobs]:
        store = NamedByContent(open_blobs(f"s3://{BUCKET}/{prefix}", **swift.options()))
        yield store
        store.close()


def _keys(swift: SwiftServer, prefix: str) -> list[str]:
    listed = swift.client().list_objects_v2(Bucket=BUCKET, Prefix=prefix)
    return [each["Key"].removeprefix(f"{prefix}/") for each in listed.get("Contents", [])]


def _unfinished(swift: SwiftServer, prefix: str) -> list[str]:
    listed = swift.client().list_multipart_uploads(Bucket=BUCKET, Prefix=prefix)
    return [each["Key"] for each in listed.get("Uploads", [])]


def test_a_blob_lies_where_the_layout_says(swift: SwiftServer, blobs: Blobs, prefix: str) -> None:
    name = digest_of(b"found").removeprefix("sha256:")
    blobs.put(SPACE, b"found")
    assert _keys(swift, prefix) == [f"{SPACE}/{name[:2]}/{name}"]


def test_a_large_upload_leaves_its_blob_and_nothing_else(swift: SwiftServer, blobs: Blobs, prefix: str) -> None:
    stored = blobs.put(SPACE, b"".join(big_pieces()))
    assert _keys(swift, prefix) == [f"{SPACE}/{stored.digest[7:9]}/{stored.digest[7:]}"]
    assert _unfinished(swift, prefix) == []


def test_an_aborted_large_upload_leaves_no_parts_in_the_bucket(swift: SwiftServer, blobs: Blobs, prefix: str) -> None:
    with blobs.begin(SPACE) as upload:
        for piece in big_pieces():
            upload.write(piece)
    assert _keys(swift, prefix) == []
    assert _unfinished(swift, prefix) == []


def test_a_store_opened_again_has_what_was_stored(swift: SwiftServer, blobs: Blobs, prefix: str) -> None:
    digest = blobs.put(SPACE, b"durable").digest
    again = open_blobs(f"s3://{BUCKET}/{prefix}/", **swift.options())
    assert again.read_all(SPACE, digest) == b"durable"
    again.close()


def test_a_listing_of_several_pages_is_whole(blobs: Blobs) -> None:
    digests = {blobs.put(SPACE, f"{number}".encode()).digest for number in range(33)}
    assert {listed.digest for listed in blobs.list()} == digests
    assert blobs.delete(SPACE, digests) == 33


# What fails


CALLS: dict[str, Callable[[Blobs, str], Any]] = {
    "put": lambda blobs, digest: blobs.put(SPACE, b"small"),
    "put a large one": lambda blobs, digest: blobs.put(SPACE, bytes(SMALL_BYTES + 1)),
    "read": lambda blobs, digest: blobs.read(SPACE, digest),
    "read past the end": lambda blobs, digest: blobs.read(SPACE, digest, 1000),
    "read nothing": lambda blobs, digest: blobs.read(SPACE, digest, 5, 5),
    "size": lambda blobs, digest: blobs.size(SPACE, digest),
    "verify": lambda blobs, digest: blobs.verify(SPACE, digest),
    "delete": lambda blobs, digest: blobs.delete(SPACE, [digest]),
    "delete what is missing": lambda blobs, digest: blobs.delete(SPACE, [ABSENT]),
}
LISTINGS: dict[str, Callable[[Blobs, str], Any]] = {
    "list": lambda blobs, digest: list(blobs.list()),
    "sweep": lambda blobs, digest: blobs.sweep_uploads(0),
}


def _outcomes(calls: dict[str, Callable[[Blobs, str], Any]], blobs: Blobs, digest: str) -> dict[str, Any]:
    """What each call raises, or gives."""
    found: dict[str, Any] = {}
    for name, call in calls.items():
        try:
            found[name] = call(blobs, digest)
        except LabkeepError as error:
            found[name] = type(error)
    return found


@pytest.mark.parametrize("servers", [("object",), ("proxy",)])
def test_a_store_that_is_down_is_unavailable_and_comes_back(
    tmp_path: Path, servers: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    with SwiftServer(tmp_path) as swift:
        swift.create_bucket(BUCKET)
        blobs = open_blobs(f"s3://{BUCKET}", **swift.options(), **IMPATIENT)
        digest = blobs.put(SPACE, b"there before").digest
        swift.stop(*servers)
        calls = CALLS if servers == ("object",) else CALLS | LISTINGS  # listings ask the container server alone
        with caplog.at_level(logging.CRITICAL, "labkeep"):
            assert _outcomes(calls, blobs, digest) == dict.fromkeys(calls, Unavailable)
        for kind in servers:
            swift.start(kind)
        assert blobs.read_all(SPACE, digest) == b"there before"
        assert [listed.digest for listed in blobs.list()] == [digest]
        blobs.close()


def test_a_store_that_dies_during_a_large_upload_is_unavailable_and_keeps_nothing(tmp_path: Path) -> None:
    with SwiftServer(tmp_path) as swift:
        swift.create_bucket(BUCKET)
        blobs = open_blobs(f"s3://{BUCKET}", **swift.options(), **IMPATIENT)
        with pytest.raises(Unavailable), blobs.begin(SPACE) as upload:  # noqa: PT012 - any of these may be the one
            for number, piece in enumerate(big_pieces(4 * BIG_BYTES)):
                if number == 40:
                    swift.stop("object")
                upload.write(piece)
            upload.finish()
        swift.start("object")
        assert list(blobs.list()) == []
        blobs.close()


@pytest.mark.parametrize("option", ["access_key_id", "secret_access_key"])
def test_a_wrong_key_is_unavailable_and_never_looks_like_a_missing_blob(swift: SwiftServer, option: str) -> None:
    blobs = open_blobs(f"s3://{BUCKET}", **{**swift.options(), option: "wrong"}, **IMPATIENT)
    calls = CALLS | LISTINGS
    assert _outcomes(calls, blobs, ABSENT) == dict.fromkeys(calls, Unavailable)
    blobs.close()


def test_a_missing_bucket_never_looks_like_missing_blobs(swift: SwiftServer) -> None:
    """Else a purge against a mistyped bucket would prove that everything is gone."""
    blobs = open_blobs("s3://no-such-bucket", **swift.options(), **IMPATIENT)
    calls = CALLS | LISTINGS
    assert _outcomes(calls, blobs, ABSENT) == dict.fromkeys(calls, Unavailable)
    blobs.close()


def test_an_error_of_the_store_names_no_address(swift: SwiftServer) -> None:
    blobs = open_blobs("s3://no-such-bucket", **swift.options(), **IMPATIENT)
    with pytest.raises(Unavailable) as caught:
        blobs.put(SPACE, b"x")
    assert "no-such-bucket" not in caught.value.message
    assert "127.0.0.1" not in caught.value.message
    blobs.close()


def test_a_blob_that_vanishes_under_its_reader_is_an_error_and_never_short(blobs: Blobs) -> None:
    stored = blobs.put(SPACE, b"".join(big_pieces()))
    pieces = blobs.read(SPACE, stored.digest)
    next(pieces)
    blobs.delete(SPACE, [stored.digest])
    with pytest.raises(Unavailable, match="deleted while"):
        list(pieces)
    with pytest.raises(NotFound):
        blobs.read(SPACE, stored.digest)

"""Which store a location opens, and keys: the only way from a caller's names to a place in a store."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkeep.core.errors import Invalid
from labkeep.storage.blobs import Blobs, MemoryBlobs, blob_key, parse_key
from labkeep.storage.blobs_local import LocalBlobs
from labkeep.storage.blobs_object import ObjectBlobs
from labkeep.storage.opening import open_blobs

KEYS = {"access_key_id": "k", "secret_access_key": "s", "region": "us-east-1"}

spaces = st.text("0123456789abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=64)
digests = st.text("0123456789abcdef", min_size=64, max_size=64).map("sha256:{}".format)


def _closed(store: Blobs) -> Blobs:
    store.close()
    return store


@pytest.mark.parametrize("spelling", ["{}", "file://{}", "file://localhost{}", "{}/"])
def test_a_path_opens_files(tmp_path: Path, spelling: str) -> None:
    store = open_blobs(spelling.format(tmp_path / "with space"))
    assert isinstance(_closed(store), LocalBlobs)
    assert (tmp_path / "with space" / "_tmp").is_dir()


def test_a_path_object_opens_files(tmp_path: Path) -> None:
    assert isinstance(_closed(open_blobs(tmp_path)), LocalBlobs)


def test_a_file_url_may_be_quoted(tmp_path: Path) -> None:
    _closed(open_blobs((tmp_path / "100% sure").as_uri()))
    assert (tmp_path / "100% sure" / "_tmp").is_dir()


def test_memory_opens_memory() -> None:
    assert isinstance(_closed(open_blobs("memory://")), MemoryBlobs)


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("s3://bucket", KEYS),
        ("s3://bucket/some/prefix", KEYS),
        ("s3://bucket", {**KEYS, "endpoint": "http://127.0.0.1:9"}),
        ("s3://bucket", {**KEYS, "timeout": "90s", "connect_timeout": "1s", "allow_http": "true", "max_retries": "3"}),
        ("s3://bucket", {**KEYS, "retry_timeout_s": "2.5", "user_agent": "mine"}),
        ("gs://bucket/prefix", {"skip_signature": "true"}),
        ("az://account/container", {"account_name": "account", "account_key": "a2V5"}),
    ],
)
def test_a_bucket_opens_an_object_store_with_options_that_are_text(url: str, options: dict[str, str]) -> None:
    assert isinstance(_closed(open_blobs(url, **options)), ObjectBlobs)


@pytest.mark.parametrize(
    "location", ["ftp://host/path", "http://host/path", "file://host/path", "file://", "S3://bucket", "://", "x://y"]
)
def test_what_is_no_store_is_refused_with_the_choices(location: str) -> None:
    with pytest.raises(Invalid, match="use a path, file:///, memory://, s3://, gs:// or az://"):
        open_blobs(location)


@pytest.mark.parametrize("location", ["/no/where", "memory://", "file:///no/where"])
def test_options_that_nobody_reads_are_refused(location: str) -> None:
    with pytest.raises(Invalid, match="takes no options: region"):
        open_blobs(location, region="us-east-1")


@pytest.mark.parametrize(
    "options", [{"nonsense": "x"}, {"max_retries": "many"}, {"retry_timeout_s": "soon"}, {"timeout": "soon"}]
)
def test_an_option_that_makes_no_sense_is_refused(options: dict[str, str]) -> None:
    with pytest.raises(Invalid, match="cannot be opened") as caught:
        open_blobs("s3://bucket", **KEYS, **options)
    assert "\n" not in caught.value.message


def test_a_bucket_must_be_named() -> None:
    with pytest.raises(Invalid, match="cannot be opened"):
        open_blobs("s3://", **KEYS)


def test_files_need_no_object_store_client_and_buckets_say_which() -> None:
    program = """
import sys, tempfile
sys.modules["obstore"] = None
from labkeep.core.errors import Unsupported
from labkeep.storage.opening import open_blobs
with tempfile.TemporaryDirectory() as folder:
    print(open_blobs(folder).put("space", b"x").size)
try:
    open_blobs("s3://bucket")
except Unsupported as error:
    print(error.message)
"""
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert printed == "1\ns3://bucket needs the object store client: pip install 'labkeep[s3]'\n"


@given(space=spaces, digest=digests)
def test_a_key_is_read_back_as_what_it_was_made_of(space: str, digest: str) -> None:
    assert parse_key(blob_key(space, digest)) == (space, digest)


@given(st.text(), st.text())
def test_no_text_makes_a_key_that_leaves_its_space(space: str, digest: str) -> None:
    for each in (digest, f"sha256:{digest}"):
        try:
            key = blob_key(space, each)
        except Invalid:
            continue
        assert parse_key(key) == (space, each)
        assert Path("/store", key).resolve().relative_to("/store").parts[0] == space


@given(st.text())
def test_only_keys_are_parsed(text: str) -> None:
    found = parse_key(text)
    assert found is None or blob_key(*found) == text

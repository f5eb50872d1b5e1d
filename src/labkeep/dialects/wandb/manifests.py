"""Manifests of artifacts: the client's list of files by path, each with its MD5 or where it really is. Pure."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from labkeep.core.commands import ManifestEntry
from labkeep.core.entities import ArtifactVersion, File, Json
from labkeep.core.errors import Invalid

PATH = ".wandb/manifest.json"
"""Where the client's manifest lies among the files of a version, so that it goes when they go."""


PARTS = ".wandb/parts/"
"""Where the manifests of several makers of one version lie until it is committed."""


_PART = re.compile(r"[0-9a-f]{32}")


class Entry(msgspec.Struct, frozen=True, rename={"birth": "birthArtifactID"}):
    """One file. ``digest`` is a base64 MD5; ``ref`` a URL of what is not stored here; ``birth`` the version it came with."""

    digest: str = ""
    size: int | None = None
    ref: str | None = None
    birth: str | None = None


class Manifest(msgspec.Struct, frozen=True):
    """What the client uploads beside the files."""

    contents: dict[str, Entry] = {}


def parse(data: bytes) -> Manifest:
    """The manifest that a client wrote. Invalid."""
    try:
        return msgspec.json.decode(data, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Invalid(f"the manifest cannot be read: {error}", path="manifest") from None


def merged(below: bytes, above: bytes) -> bytes:
    """The manifest ``above`` with what only the one ``below`` has: for versions that say only what changed."""
    parse(below), parse(above)
    base, top = msgspec.json.decode(below), msgspec.json.decode(above)
    return msgspec.json.encode({**top, "contents": {**base["contents"], **top["contents"]}})


def part_path(part: str) -> str:
    """Where the manifest of one of several makers lies. Invalid for what is no name of a part."""
    if not _PART.fullmatch(part):
        raise Invalid(f"{part[:40]!r} is not the id of a manifest", path="artifactManifestID")
    return f"{PARTS}{part}.json"


def parts(uploaded: Mapping[str, File]) -> list[File]:
    """The manifests of several makers, in the order in which they came."""
    found = [file for path, file in uploaded.items() if path.startswith(PARTS)]
    return sorted(found, key=lambda file: (file.created_at, file.path))


def joined(manifests: Iterable[bytes]) -> bytes:
    """One manifest of all: where two name the same path, the later one counts."""
    first, *others = manifests
    for other in others:
        first = merged(first, other)
    return first


def digest_of(manifest: Manifest) -> str:
    """The client's digest of a manifest: MD5 in hex over its paths and their digests."""
    hasher = hashlib.md5(b"wandb-artifact-manifest-v1\n", usedforsecurity=False)
    for path, entry in sorted(manifest.contents.items()):
        hasher.update(f"{path}:{entry.digest}\n".encode())
    return hasher.hexdigest()


def entries(
    manifest: Manifest, uploaded: Mapping[str, File], elsewhere: Mapping[tuple[str, str], File]
) -> list[ManifestEntry]:
    """Our entries: uploaded with this version, or taken over from the one that an entry was born with.

    ``elsewhere`` has files of other versions by (version, MD5). Invalid names a file that is nowhere.
    """
    same = {entry.digest: uploaded[path] for path, entry in manifest.contents.items() if path in uploaded}
    return [_entry(path, entry, uploaded, same, elsewhere) for path, entry in manifest.contents.items()]


def _entry(
    path: str,
    entry: Entry,
    uploaded: Mapping[str, File],
    same: Mapping[str, File],
    elsewhere: Mapping[tuple[str, str], File],
) -> ManifestEntry:
    if entry.ref is not None:
        return ManifestEntry(path=path, digest=entry.ref, size=entry.size or 0)
    file = uploaded.get(path) or same.get(entry.digest) or elsewhere.get((entry.birth or "", entry.digest))
    if file is None:
        raise Invalid(
            f"file {path[:200]!r} of the artifact was not uploaded: upload it, then commit again", path="files"
        )
    return ManifestEntry(path=path, digest=file.digest, size=file.size, media_type=file.media_type)


def births(manifest: Manifest, uploaded: Mapping[str, File]) -> set[str]:
    """Versions from which files must be taken over."""
    return {
        entry.birth
        for path, entry in manifest.contents.items()
        if entry.birth and entry.ref is None and path not in uploaded
    }


def size_of(manifest: Manifest) -> int:
    """Bytes of the files, wherever they are."""
    return sum(entry.size or 0 for entry in manifest.contents.values())


def made_up(version: ArtifactVersion, files: Iterable[File], id: str) -> bytes:
    """A manifest for a version that another API made. Its digests are not MD5s: they only say what is the same."""
    contents: Json = {
        file.path: {"digest": short_digest(file.digest), "size": file.size, "birthArtifactID": id} for file in files
    }
    for reference in references(version):
        contents[reference["path"]] = {
            "digest": reference["digest"],
            "ref": reference["digest"],
            "size": reference.get("size", 0),
        }
    return msgspec.json.encode(
        {
            "version": 1,
            "storagePolicy": "wandb-storage-policy-v1",
            "storagePolicyConfig": {"storageLayout": "V2"},
            "contents": contents,
        }
    )


def short_digest(digest: str) -> str:
    """A digest of the length that the client expects."""
    return base64.b64encode(bytes.fromhex(digest.removeprefix("sha256:"))[:16]).decode()


def references(version: ArtifactVersion) -> list[dict[str, Any]]:
    """Files that are somewhere else."""
    found = version.extra.get("references")
    return found if isinstance(found, list) else []

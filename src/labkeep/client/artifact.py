"""Artifacts: named, versioned sets of files, while they are put together and after they were logged or found."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from labkeep.client.downloads import Download, file_digest, safe_path
from labkeep.client.mappings import plain_copy
from labkeep.client.repairs import warn_once
from labkeep.core.entities import ArtifactVersion, File, Json
from labkeep.core.errors import Invalid, NotFound, Refused

if TYPE_CHECKING:
    from labkeep.client._sync.client import Labkeep
    from labkeep.client.outbox import Ticket


class Artifact:
    """A set of files under a name. Fill it with ``add_…``, then give it to ``run.log_artifact``.

    A version is immutable: ``add_…`` on one that was logged or found raises Refused.
    """

    def __init__(
        self,
        name: str,
        type: str = "artifact",
        description: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        if not name or set(name) & set("/:\\\0"):
            raise Invalid(f"{name!r} cannot name an artifact: it must not be empty or have any of / : \\", path="name")
        self.name = name
        self.type = type
        self.description = description or ""
        self.metadata: dict[str, Any] = dict(metadata or {})
        self.aliases: list[str] = []
        self.sources: dict[str, Path] = {}
        """Path in the artifact → local file."""
        self.references: dict[str, str] = {}
        """Path in the artifact → URI."""
        self._made: Path | None = None
        self._version: ArtifactVersion | None = None
        self._client: Labkeep | None = None
        self._ticket: Ticket | None = None

    @classmethod
    def found(cls, client: Labkeep, name: str, version: ArtifactVersion) -> Artifact:
        """A version that the server has."""
        artifact = cls(name, version.type or "artifact", version.description, version.metadata)
        artifact._bind(client, version)
        return artifact

    def _bind(self, client: Labkeep, version: ArtifactVersion) -> None:
        self._client, self._version = client, version
        self.aliases = list(version.aliases)
        self.references = {entry["path"]: entry["digest"] for entry in version.extra.get("references", ())}

    # --- putting together

    def add_file(self, local_path: str | os.PathLike[str], name: str | None = None) -> None:
        """One file, under its own name unless another is given. It is read when the artifact is logged."""
        source = Path(local_path)
        if not source.is_file():
            raise NotFound(f"there is no file {source}", path=str(source))
        self._add(name or source.name, source)

    def add_dir(self, local_path: str | os.PathLike[str], name: str | None = None) -> None:
        """Every file below a folder, under its path there, behind ``name`` if one is given."""
        root = Path(local_path)
        if not root.is_dir():
            raise NotFound(f"there is no folder {root}", path=str(root))
        for source in sorted(root.rglob("*")):
            if source.is_file():
                path = source.relative_to(root).as_posix()
                self._add(f"{name.rstrip('/')}/{path}" if name else path, source)

    def add_reference(self, uri: str, name: str | None = None) -> None:
        """A file that stays where it is: only its address is kept."""
        self._require_open()
        self.references[_path(name or uri.rstrip("/").rpartition("/")[2])] = uri

    @contextmanager
    def new_file(self, name: str, mode: str = "w", encoding: str | None = "utf-8") -> Iterator[IO[Any]]:
        """A file to write into, which is added when it is closed."""
        self._require_open()
        if self._made is None:
            self._made = Path(tempfile.mkdtemp(prefix="labkeep-"))
            weakref.finalize(self, shutil.rmtree, self._made, ignore_errors=True)
        source = safe_path(self._made, _path(name))
        source.parent.mkdir(parents=True, exist_ok=True)
        with source.open(mode, encoding=None if "b" in mode else encoding) as file:
            yield file
        self._add(name, source)

    def _add(self, name: str, source: Path) -> None:
        self._require_open()
        self.sources[_path(name)] = source

    def _require_open(self) -> None:
        if self._version is not None or self._ticket is not None:
            raise Refused(f"artifact {self.name} was logged already and cannot change; make a new one")

    @property
    def plain_metadata(self) -> Json:
        """The metadata in JSON's own types."""
        return plain_copy(self.metadata)

    # --- once it is there

    def logged(self, client: Labkeep | None, ticket: Ticket) -> None:
        """It is on its way."""
        self._client, self._ticket = client, ticket

    def wait(self, timeout_s: float | None = None) -> Artifact:
        """The artifact once the server has it. Refused when it was kept on disk instead, or when time ran out."""
        if self._version is None:
            if self._ticket is None:
                raise Refused(f"artifact {self.name} was not logged yet")
            if not self._ticket.wait(timeout_s):
                raise Refused(f"artifact {self.name} is not on the server yet; it is sent later, or by `labkeep sync`")
            assert self._client is not None
            self._bind(self._client, self._ticket.answer)
        return self

    @property
    def _known(self) -> ArtifactVersion:
        self.wait()
        assert self._version is not None
        return self._version

    @property
    def id(self) -> str:
        """Id of this version. Waits until there is one."""
        return self._known.id

    @property
    def version(self) -> str:
        """``v0``, ``v1`` … Waits until there is one."""
        return self._known.name

    @property
    def digest(self) -> str:
        """Digest over all paths and contents. Waits until there is one."""
        return self._known.digest

    @property
    def size(self) -> int:
        """Bytes of all files. Waits until that is known."""
        return self._known.bytes

    def files(self) -> list[File]:
        """The files of this version, by path."""
        self.wait()
        assert self._client is not None
        return list(self._client.files.list(self.id))

    def download(self, root: str | os.PathLike[str] | None = None) -> str:
        """Fetch every file into ``root`` (``./artifacts/<name>-<version>``); returns that folder.

        Each file is checked against its digest (Corrupt otherwise) and appears as a whole. One that is there already,
        with the right content, is left alone. Raises Invalid for a path that leads out of the folder.
        """
        folder = Path(root) if root is not None else Path("artifacts") / f"{self.name}-{self.version}"
        folder.mkdir(parents=True, exist_ok=True)
        files = self.files()
        targets = [safe_path(folder, file.path) for file in files]  # all of them before the first is written
        for file, target in zip(files, targets, strict=True):
            self._download(file, target)
        for path, uri in self.references.items():
            warn_once(f"reference:{uri}", "labkeep: %s is only a reference to %s; it is not fetched", path, uri)
        return str(folder)

    def _download(self, file: File, target: Path) -> None:
        assert self._client is not None
        if not (target.is_file() and file_digest(target) == file.digest):
            with Download(target, file.digest) as download:
                self._client.files.fetch(self.id, file.path, download)

    def __repr__(self) -> str:
        known = f":{self._version.name}" if self._version is not None else ""
        return f"<Artifact {self.name}{known} ({self.type})>"


def _path(name: str) -> str:
    path = name.replace(os.sep, "/").lstrip("/")
    if not path or ".." in path.split("/") or "\0" in path:
        raise Invalid(f"{name!r} cannot be a path in an artifact", path=name)
    return path

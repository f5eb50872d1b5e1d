"""What each op of a spool means to a server. Used while a run goes on, and again when its spool is replayed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from labkeep.client.spool import Begin, Change, End, Entry, Op, PutArtifact, PutFile, Rows, staged
from labkeep.client.staging import Staging
from labkeep.core.errors import Invalid, NotFound, TooLarge, Unsupported

if TYPE_CHECKING:
    from labkeep.client._sync.client import Labkeep


class Delivery:
    """Sends ops of one run. Each may be sent twice. ``stop`` is set when the server asks the run to end."""

    def __init__(self, client: Labkeep, begin: Begin, staging: Staging) -> None:
        self._client = client
        self.run_id: str = begin.run["id"]
        self.project: str = begin.run["project"]
        self._staging = staging
        self.stop = False

    def __call__(self, op: Op) -> Any:
        """The server's answer. Raises what the client raises."""
        if isinstance(op, Rows):
            return self._rows(op)
        if isinstance(op, Begin):
            return self._client.runs.create(**op.run)
        if isinstance(op, Change):
            return self._client.runs.update(self.run_id, **op.fields)
        if isinstance(op, PutFile | PutArtifact):
            return self._files(op)
        assert isinstance(op, End)
        return self._client.runs.finish(self.run_id, status=op.status, exit_code=op.exit_code, summary=op.summary)

    def beat(self) -> None:
        """Say that the run is alive."""
        self.stop |= self._client.runs.heartbeat(self.run_id).stop

    def _rows(self, op: Rows) -> Any:
        done = self._client.runs.append_batch(self.run_id, op.data, stream=op.stream, offset=op.offset)
        self.stop |= done.stop
        return done

    def _files(self, op: PutFile | PutArtifact) -> Any:
        """Upload, then let go of the local copies: also when the server will never take them."""
        try:
            done = self._file(op.entry) if isinstance(op, PutFile) else self._artifact(op)
        except (Invalid, TooLarge, Unsupported):
            self._let_go(op)
            raise
        self._let_go(op)
        return done

    def _let_go(self, op: PutFile | PutArtifact) -> None:
        for entry in staged(op):
            self._staging.drop(entry.digest)

    def _file(self, entry: Entry) -> Any:
        if not self._staging.path(entry.digest).exists() and self._is_there(entry):
            return None  # delivered by a process that ended before it could say so
        return self._client.files.upload(self.run_id, entry.path, self._require(entry), media_type=entry.media_type)

    def _is_there(self, entry: Entry) -> bool:
        files = self._client.files.list(self.run_id, prefix=entry.path)
        return any((file.path, file.digest) == (entry.path, entry.digest) for file in files)

    def _artifact(self, op: PutArtifact) -> Any:
        needed = {entry.digest: entry for entry in staged(op)}
        for digest, entry in needed.items():
            if not self._client.blobs.exists(digest, project=self.project):
                self._client.blobs.upload(self._require(entry), digest=digest, project=self.project)
        try:
            return self._create(op)
        except NotFound:
            # What nothing refers to may be swept: a blob that was there a moment ago can be gone by now.
            for digest, entry in needed.items():
                self._client.blobs.upload(self._require(entry), digest=digest, project=self.project)
            return self._create(op)

    def _create(self, op: PutArtifact) -> Any:
        return self._client.artifacts.create(
            self.project,
            op.name,
            type=op.type,
            files=[
                {"path": e.path, "digest": e.digest, "size": e.size, "media_type": e.media_type} for e in op.entries
            ],
            description=op.description,
            metadata=op.metadata,
            aliases=op.aliases,
            run_id=self.run_id,
        )

    def _require(self, entry: Entry) -> Any:
        copy = self._staging.path(entry.digest)
        if not copy.exists():
            raise Invalid(
                f"the local copy of {entry.path} is gone from {copy.parent}; it cannot be uploaded", path="files"
            )
        return copy

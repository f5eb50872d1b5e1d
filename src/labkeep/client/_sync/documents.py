# Generated from labkeep/client/_async/documents.py by scripts/unasync.py: change that file instead.
"""Documents: definitions with immutable versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import UNSET, UnsetType

from labkeep.client import requests
from labkeep.client._sync.connection import Pages
from labkeep.client._sync.items import Items
from labkeep.core.entities import Document, Version


class Documents(Items):
    """``client.documents``: experiments, datasets, prompts and whatever else has versions."""

    def create(
        self,
        project: str,
        type: str,
        name: str,
        *,
        handle: str | UnsetType | None = UNSET,
        id: str | None = None,
        description: str | None = None,
        tags: Sequence[str] | None = None,
        metadata: Mapping[str, Any] | None = None,
        extra: Mapping[str, Any] | None = None,
        status: str | None = None,
        body: Mapping[str, Any] | None = None,
        message: str | None = None,
        exist_ok: bool | None = None,
    ) -> Document:
        """A new document; with a ``body`` also its first version.

        ``handle`` is unique among the live documents of the type in the project: the name when left out, None for no
        uniqueness. AlreadyExists when it is taken, unless ``exist_ok``.
        """
        fields = requests.given(locals())
        if handle is None:
            fields["handle"] = None
        return self._connection.write(Document, "POST", requests.path("/documents"), fields)

    def list(
        self,
        project: str | None = None,
        *,
        type: str | None = None,
        name: str | None = None,
        status: str | None = None,
        q: str | None = None,
        order: str | None = None,
        state: str | None = None,
        ids: Sequence[str] | None = None,
        before: str | None = None,
        after: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Pages[Document]:
        """Documents of a project, or of the workspace."""
        return self._connection.pages(Document, requests.path("/documents"), **requests.given(locals()))

    def get(self, id: str, *, include: str | None = None) -> Document:
        """A document by id."""
        return self._connection.read(Document, requests.path("/documents/{id}", id=id), include=include)

    def update(
        self,
        id: str,
        *,
        name: str | UnsetType = UNSET,
        description: str | UnsetType = UNSET,
        tags: Sequence[str] | UnsetType = UNSET,
        metadata: Mapping[str, Any] | UnsetType = UNSET,
        extra: Mapping[str, Any] | UnsetType = UNSET,
        status: str | UnsetType = UNSET,
        if_version: int | UnsetType = UNSET,
    ) -> Document:
        """Edit what is beside the versions. Objects merge deeply; None inside them removes a key."""
        fields = requests.changed(locals(), "id")
        return self._connection.write(Document, "PATCH", requests.path("/documents/{id}", id=id), fields)

    def commit(
        self, id: str, body: Mapping[str, Any], *, message: str | None = None, parent: int | None = None
    ) -> Version:
        """A new version. A body that equals the newest version's answers that version.

        With ``parent`` only if that is still the newest version (Stale otherwise).
        """
        path = requests.path("/documents/{id}/versions", id=id)
        fields = requests.given({"body": body, "message": message, "parent": parent})
        return self._connection.write(Version, "POST", path, fields)

    def versions(
        self, id: str, *, include: str | None = None, limit: int | None = None, cursor: str | None = None
    ) -> Pages[Version]:
        """Versions, newest first."""
        path = requests.path("/documents/{id}/versions", id=id)
        return self._connection.pages(Version, path, include=include, limit=limit, cursor=cursor)

    def get_version(self, id: str, number: int | None = None, *, include: str | None = None) -> Version:
        """One version by number; the newest when left out."""
        chosen = "latest" if number is None else number
        path = requests.path("/documents/{id}/versions/{number}", id=id, number=chosen)
        return self._connection.read(Version, path, include=include)

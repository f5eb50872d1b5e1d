"""Portfolios: versions linked from elsewhere, with numbers and aliases of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from labkeep.core.access import Actor
from labkeep.core.commands import CreateArtifactVersion, ItemVerb, ManifestEntry, ResolveArtifact, RestoreDeletion
from labkeep.core.entities import ArtifactVersion
from labkeep.core.errors import Conflict, Gone, InUse, NotFound
from labkeep.operations import Store, artifact_links, artifacts, deletions, files
from labkeep.operations.artifact_links import (
    FindLinked,
    FindMember,
    FindPortfolios,
    LinksOf,
    LinkVersion,
    UnlinkVersion,
)
from labkeep.operations.artifact_searches import Held
from labkeep.storage import tables as t
from labkeep.storage.transaction import Tx
from labkeep.testing.factories import make_actor, make_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with make_store(tmp_path) as store:
        yield store


@pytest.fixture
def actor(store: Store) -> Actor:
    return make_actor(store.database)


def version(store: Store, actor: Actor, text: str, **fields: Any) -> ArtifactVersion:
    with files.begin(store, actor) as upload:
        upload.write(text.encode())
        stored = upload.finish()
    files.keep(store, actor, stored)
    entries = [
        ManifestEntry(path="a.txt", digest=stored.digest),
        ManifestEntry(path="far", digest="s3://b/far", size=3),
    ]
    command = CreateArtifactVersion(
        **({"project": "p", "name": "net", "type": "model", "files": entries} | fields)  # type: ignore[arg-type]
    )
    return store.database.write(artifacts.create_version, actor, command)


def link(store: Store, actor: Actor, of: ArtifactVersion, *aliases: str, name: str = "best") -> Held:
    asked = LinkVersion(id=of.id, project="registry-x", name=name, aliases=aliases)
    return store.database.write(artifact_links.link, actor, asked)


def references(store: Store, actor: Actor) -> dict[str, int]:
    def read(tx: Tx, _actor: Actor, _command: None) -> dict[str, int]:
        return {row[0]: row[1] for row in tx.execute(select(t.blobs.c.digest, t.blobs.c.refs))}

    return store.database.read(read, actor, None)


def test_a_link_is_numbered_in_its_portfolio_and_has_the_files_of_its_source(store: Store, actor: Actor) -> None:
    version(store, actor, "old")
    second = version(store, actor, "new")
    made = link(store, actor, second, "staging")
    assert (made.version.name, made.version.digest, made.collection.type) == ("v0", second.digest, "model")
    assert set(made.version.aliases) == {"staging", "latest"}
    assert made.version.extra["references"] == second.extra["references"]
    assert set(references(store, actor).values()) == {1, 2}
    assert [held.version.id for held in store.database.read(artifact_links.links_of, actor, LinksOf(id=second.id))] == [
        made.version.id
    ]


def test_linked_again_it_only_gains_aliases_and_a_link_of_a_link_is_one_of_its_source(
    store: Store, actor: Actor
) -> None:
    source = version(store, actor, "text")
    first = link(store, actor, source, "a").version
    again = link(store, actor, source, "b").version
    assert (again.id, set(again.aliases)) == (first.id, {"a", "b", "latest"})
    other = link(store, actor, first, name="second").version
    assert other.extra["source"] == source.id


def test_names_and_types_do_not_mix(store: Store, actor: Actor) -> None:
    source = version(store, actor, "text")
    link(store, actor, source)
    with pytest.raises(Conflict, match="holds links to artifacts of type 'model'"):
        link(store, actor, version(store, actor, "rows", name="rows", type="dataset"))
    asked = LinkVersion(id=source.id, project="p", name="net")
    with pytest.raises(Conflict, match="holds versions that runs made"):
        store.database.write(artifact_links.link, actor, asked)
    with pytest.raises(Conflict, match="holds links to versions"):
        version(store, actor, "more", project="registry-x", name="best")


def test_a_source_takes_its_links_along_and_they_come_back_with_it(store: Store, actor: Actor) -> None:
    source = version(store, actor, "text")
    made = link(store, actor, source, "prod").version
    with pytest.raises(InUse, match="alias prod"):
        store.database.write(deletions.trash_item, actor, ItemVerb(id=source.id))
    outcome = store.database.write(deletions.trash_item, actor, ItemVerb(id=source.id, force=True))
    assert outcome.counts == {"artifact_version": 2}
    with pytest.raises(NotFound):
        store.database.read(artifacts.resolve, actor, ResolveArtifact(project="registry-x", name="best:prod"))
    assert outcome.deletion_id is not None
    store.database.write(deletions.restore, actor, RestoreDeletion(id=outcome.deletion_id))
    found = store.database.read(artifacts.resolve, actor, ResolveArtifact(project="registry-x", name="best:prod"))
    assert found.id == made.id


def test_unlinking_leaves_the_source_alone(store: Store, actor: Actor) -> None:
    source = version(store, actor, "text")
    made = link(store, actor, source, "prod")
    asked = UnlinkVersion(id=source.id, portfolio_id=made.collection.id)
    store.database.write(artifact_links.unlink, actor, asked)
    assert store.database.read(artifacts.resolve, actor, ResolveArtifact(project="p", name="net")).id == source.id
    with pytest.raises(NotFound, match="not linked"):
        store.database.write(artifact_links.unlink, actor, asked)
    assert link(store, actor, source).version.name == "v1"


def test_a_member_is_the_version_at_home_and_the_link_elsewhere(store: Store, actor: Actor) -> None:
    source = version(store, actor, "text")
    made = link(store, actor, source).version

    def member(project: str, name: str) -> str:
        asked = FindMember(id=source.id, project=project, name=name)
        return store.database.read(artifact_links.member, actor, asked).id

    assert (member("p", "net"), member("registry-x", "best")) == (source.id, made.id)
    other = version(store, actor, "other", name="other")
    with pytest.raises(NotFound, match="not in 'best'"):
        store.database.read(artifact_links.member, actor, FindMember(id=other.id, project="registry-x", name="best"))


def test_registries_are_found_by_their_prefix(store: Store, actor: Actor) -> None:
    made = link(store, actor, version(store, actor, "text"))
    found = store.database.read(artifact_links.portfolios, actor, FindPortfolios(prefix="registry-"))
    assert [(each.project.name, each.collection.name) for each in found] == [("registry-x", "best")]
    linked = store.database.read(artifact_links.linked, actor, FindLinked(found))
    assert [each.version for each in linked] == [made.version]
    assert store.database.read(artifact_links.portfolios, actor, FindPortfolios(prefix="Registry-")) == []


def test_nothing_in_the_trash_is_linked(store: Store, actor: Actor) -> None:
    source = version(store, actor, "text")
    store.database.write(deletions.trash_item, actor, ItemVerb(id=source.id))
    with pytest.raises(Gone):
        link(store, actor, source)

"""Artifacts: versions and their digests, aliases that move, references, and how versions are found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from labkeep.core.access import Actor
from labkeep.core.commands import (
    Apply,
    AttachFile,
    CreateArtifactVersion,
    Get,
    ListArtifacts,
    ListArtifactVersions,
    ListAudit,
    ListFiles,
    ManifestEntry,
    ResolveArtifact,
    RestoreDeletion,
    Selection,
    SetAliases,
)
from labkeep.core.entities import ArtifactVersion
from labkeep.core.errors import Conflict, Forbidden, Gone, Illegal, Invalid, NotFound
from labkeep.operations import Store, artifacts, audits, deletions, files, purges
from labkeep.operations.purges import Step
from labkeep.storage import purge
from labkeep.storage import tables as t
from labkeep.storage.database_postgres import Postgres
from labkeep.storage.transaction import Tx
from labkeep.testing.factories import FixedClock, make_actor, make_project, make_run, make_store


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    with make_store(tmp_path) as store:
        if request.param == "sqlite":
            yield store
            return
        database = Postgres(request.getfixturevalue("postgres_url"), readers=2, clock=FixedClock())
        yield store._replace(database=database)
        database.close()


@pytest.fixture
def actor(store: Store) -> Actor:
    return make_actor(store.database)


def blob(store: Store, actor: Actor, content: bytes) -> str:
    with files.begin(store, actor) as upload:
        upload.write(content)
        stored = upload.finish()
    files.keep(store, actor, stored)
    return stored.digest


def entries(store: Store, actor: Actor, **contents: bytes) -> list[ManifestEntry]:
    return [ManifestEntry(path=path, digest=blob(store, actor, content)) for path, content in contents.items()]


def create(store: Store, actor: Actor, contents: dict[str, bytes], **fields: Any) -> ArtifactVersion:
    manifest = entries(store, actor, **contents)
    command = CreateArtifactVersion(**({"project": "p", "name": "model", "files": manifest} | fields))
    return store.database.write(artifacts.create_version, actor, command)


def resolve(store: Store, actor: Actor, name: str, **fields: Any) -> ArtifactVersion:
    return store.database.read(artifacts.resolve, actor, ResolveArtifact(**({"project": "p", "name": name} | fields)))


def alias(store: Store, actor: Actor, version: ArtifactVersion, **fields: Any) -> ArtifactVersion:
    return store.database.write(artifacts.set_aliases, actor, SetAliases(id=version.id, **fields))


def again(store: Store, actor: Actor, version: ArtifactVersion) -> ArtifactVersion:
    return store.database.read(artifacts.get_version, actor, Get(id=version.id, include="trashed"))


def trash(store: Store, actor: Actor, *ids: str) -> str:
    outcome = store.database.write(deletions.apply, actor, Apply(selection=Selection(ids=list(ids)), force=True))
    assert outcome.deletion_id
    return outcome.deletion_id


def events(store: Store, actor: Actor) -> list[str]:
    page = store.database.read(audits.list_, actor, ListAudit(ascending=True))
    return [event.event for event in page.items if event.event.startswith("artifact")]


# --- versions ---------------------------------------------------------------------------------------------------------


def test_the_first_version_makes_its_collection(store: Store, actor: Actor) -> None:
    version = create(store, actor, {"b": b"22", "a": b"1"}, type="model", metadata={"k": 1}, tags=("t", "t"))
    assert (version.name, version.number, version.bytes, version.tags) == ("v0", 0, 3, ("t",))
    collection = store.database.read(artifacts.get, actor, Get(id=version.parent_id))
    assert (collection.name, collection.type, collection.latest) == ("model", "model", 1)
    listed = store.database.read(files.list_, actor, ListFiles(id=version.id))
    assert [(file.path, file.size) for file in listed.items] == [("a", 1), ("b", 2)]
    assert events(store, actor) == ["artifact.created", "artifact_version.created"]


def test_versions_are_numbered_and_latest_is_the_newest(store: Store, actor: Actor) -> None:
    versions = [create(store, actor, {"a": content}) for content in (b"1", b"2", b"3")]
    assert [version.name for version in versions] == ["v0", "v1", "v2"]
    assert [again(store, actor, version).aliases for version in versions] == [(), (), ("latest",)]
    assert resolve(store, actor, "model").id == versions[2].id
    assert resolve(store, actor, "model:latest").id == versions[2].id
    assert resolve(store, actor, "model:v1").id == versions[1].id


def test_equal_content_answers_the_newest_version_and_adds_the_aliases(store: Store, actor: Actor) -> None:
    first = create(store, actor, {"a": b"1", "b": b"2"})
    manifest = list(reversed(entries(store, actor, a=b"1", b=b"2")))
    manifest[0] = ManifestEntry(path="./b", digest=manifest[0].digest, media_type="text/plain")
    same = create(store, actor, {}, files=manifest, aliases=("best",))
    assert (same.id, same.aliases) == (first.id, ("latest", "best"))
    assert same.version == first.version + 1
    other = create(store, actor, {"a": b"1"})
    back = create(store, actor, {"a": b"1", "b": b"2"})
    assert (other.number, back.number) == (1, 2)
    assert back.digest == first.digest
    with_refs = store.database.read(
        lambda tx, _, __: tx.execute(select(func.sum(t.blobs.c.refs))).scalar_one(), actor, None
    )
    assert with_refs == 5


def test_the_digest_depends_on_paths_and_contents_only(store: Store, actor: Actor) -> None:
    digests = {
        create(store, actor, contents, name=f"m{n}").digest
        for n, contents in enumerate([{"a": b"1"}, {"b": b"1"}, {"a": b"2"}, {}, {"a": b"1", "b": b"1"}])
    }
    assert len(digests) == 5
    assert create(store, actor, {"a": b"1"}, name="again", metadata={"x": 1}, description="d").digest in digests


def test_a_manifest_with_missing_blobs_is_refused_as_a_whole(store: Store, actor: Actor) -> None:
    missing = ["sha256:" + digit * 64 for digit in "12"]
    manifest = [*entries(store, actor, a=b"1"), *(ManifestEntry(path=d[-1] + "x", digest=d) for d in missing)]
    with pytest.raises(NotFound, match=r"and 1 more\): upload it first") as caught:
        create(store, actor, {}, files=manifest)
    assert caught.value.details["digests"] == missing
    assert store.database.read(artifacts.list_, actor, ListArtifacts()).items == []


def test_what_is_somewhere_else_is_kept_as_a_reference(store: Store, actor: Actor) -> None:
    manifest = [*entries(store, actor, a=b"1"), ManifestEntry(path="far", digest="s3://bucket/key#etag", size=10**12)]
    version = create(store, actor, {}, files=manifest)
    assert version.bytes == 1
    assert version.extra["references"] == [
        {"path": "far", "digest": "s3://bucket/key#etag", "size": 10**12, "media_type": "application/octet-stream"}
    ]
    assert [file.path for file in store.database.read(files.list_, actor, ListFiles(id=version.id)).items] == ["a"]
    moved = [manifest[0], ManifestEntry(path="far", digest="s3://bucket/key#etag2", size=10**12)]
    assert create(store, actor, {}, files=moved).number == 1


@pytest.mark.parametrize("digest", ["sha256:abc", "sha256:" + "A" * 64, "", "x" * 3000, "a\x00b"])
def test_a_digest_that_is_nearly_one_is_refused(store: Store, actor: Actor, digest: str) -> None:
    with pytest.raises(Invalid, match="is not a digest"):
        create(store, actor, {}, files=[ManifestEntry(path="a", digest=digest)])


@pytest.mark.parametrize("paths", [("a", "a"), ("a", "./a"), ("../a",), ("/a",)])
def test_paths_of_a_manifest_are_clean_and_unique(store: Store, actor: Actor, paths: tuple[str, ...]) -> None:
    digest = blob(store, actor, b"1")
    with pytest.raises(Invalid):
        create(store, actor, {}, files=[ManifestEntry(path=path, digest=digest) for path in paths])


def test_a_version_never_changes(store: Store, actor: Actor) -> None:
    version = create(store, actor, {"a": b"1"})
    digest = blob(store, actor, b"2")
    with pytest.raises(Illegal, match="make a new version"):
        store.database.write(files.attach, actor, AttachFile(id=version.id, path="b", digest=digest, size=1))


def test_a_run_remembers_the_versions_that_it_made(store: Store, actor: Actor) -> None:
    run = make_run(store.database, actor)
    made = [
        create(store, actor, {"a": b"1"}, run_id=run.id),
        create(store, actor, {"a": b"1"}, name="n", run_id=run.id),
    ]
    create(store, actor, {"a": b"2"})
    listed = store.database.read(artifacts.list_versions, actor, ListArtifactVersions(run_id=run.id))
    assert [version.id for version in listed.items] == [version.id for version in reversed(made)]
    with pytest.raises(NotFound):
        create(store, actor, {"a": b"3"}, run_id="00000000-0000-7000-8000-000000000001")


def test_a_collection_has_no_colon_in_its_name(store: Store, actor: Actor) -> None:
    with pytest.raises(Invalid, match="colon"):
        create(store, actor, {}, name="a:b")


# --- aliases ----------------------------------------------------------------------------------------------------------


def test_an_alias_moves_from_version_to_version(store: Store, actor: Actor) -> None:
    first = create(store, actor, {"a": b"1"}, aliases=("best", "first"))
    second = create(store, actor, {"a": b"2"}, aliases=("best",))
    assert again(store, actor, first).aliases == ("first",)
    assert again(store, actor, second).aliases == ("best", "latest")
    alias(store, actor, first, add=("best",))
    assert resolve(store, actor, "model:best").id == first.id
    assert again(store, actor, second).aliases == ("latest",)
    alias(store, actor, first, remove=("best", "unknown"))
    with pytest.raises(NotFound, match="no version 'best'"):
        resolve(store, actor, "model:best")
    assert events(store, actor).count("artifact_version.aliased") == 4


def test_an_alias_belongs_to_its_collection_only(store: Store, actor: Actor) -> None:
    one = create(store, actor, {"a": b"1"}, name="one", aliases=("best",))
    create(store, actor, {"a": b"1"}, name="two", aliases=("best",))
    assert again(store, actor, one).aliases == ("best", "latest")


def test_setting_an_alias_again_changes_nothing(store: Store, actor: Actor) -> None:
    version = create(store, actor, {"a": b"1"}, aliases=("best",))
    assert alias(store, actor, version, add=("best", "latest")) == version


@pytest.mark.parametrize("name", ["", "v3", "a:b", "a/b", "a\nb", "v0"])
def test_what_could_be_taken_for_something_else_is_no_alias(store: Store, actor: Actor, name: str) -> None:
    with pytest.raises(Invalid, match="cannot be an alias"):
        create(store, actor, {"a": b"1"}, aliases=(name,))


def test_latest_cannot_be_moved_by_hand(store: Store, actor: Actor) -> None:
    first = create(store, actor, {"a": b"1"})
    second = create(store, actor, {"a": b"2"})
    with pytest.raises(Illegal, match="moves by itself"):
        alias(store, actor, first, add=("latest",))
    with pytest.raises(Illegal, match="moves by itself"):
        alias(store, actor, second, remove=("latest",))


def test_an_alias_that_moved_on_does_not_come_back_with_a_restored_version(store: Store, actor: Actor) -> None:
    first = create(store, actor, {"a": b"1"}, aliases=("best",))
    deletion = trash(store, actor, first.id)
    second = create(store, actor, {"a": b"2"}, aliases=("best",))
    store.database.write(deletions.restore, actor, RestoreDeletion(id=deletion))
    assert resolve(store, actor, "model:best").id == second.id
    assert again(store, actor, first).aliases == ()


# --- the lifecycle ----------------------------------------------------------------------------------------------------


def test_latest_is_the_newest_version_that_is_not_in_the_trash(store: Store, actor: Actor) -> None:
    first = create(store, actor, {"a": b"1"})
    second = create(store, actor, {"a": b"2"})
    trash(store, actor, second.id)
    assert resolve(store, actor, "model").id == first.id
    with pytest.raises(NotFound):
        resolve(store, actor, "model:v1")
    with pytest.raises(Gone):
        store.database.read(artifacts.get_version, actor, Get(id=second.id))
    third = create(store, actor, {"a": b"2"})
    assert third.name == "v2"


def test_trashing_a_collection_frees_its_name(store: Store, actor: Actor) -> None:
    first = create(store, actor, {"a": b"1"})
    trash(store, actor, first.parent_id)
    with pytest.raises(NotFound):
        resolve(store, actor, "model")
    second = create(store, actor, {"a": b"1"})
    assert (second.number, second.parent_id == first.parent_id) == (0, False)


def test_purging_leaves_nothing_of_an_artifact_and_releases_its_blobs(store: Store, actor: Actor) -> None:
    version = create(store, actor, {"a": b"1", "b": b"2"}, aliases=("best",), metadata={"k": "v"})
    deletion = trash(store, actor, version.parent_id)
    store.database.write(deletions.purge, actor, deletions.PurgeDeletion(id=deletion))
    store.database.write(purges.commit, actor, purges.Committed(deletion, "a digest"))
    while store.database.write(purges.remove_some, actor, Step(deletion)):
        pass

    def left(tx: Tx, actor: Actor, _: None) -> tuple[dict[str, int], int]:
        refs = tx.execute(select(func.sum(t.blobs.c.refs))).scalar_one()
        return purge.look(tx, actor.organization_id, deletion, None, 100).left, int(refs)

    assert store.database.read(left, actor, None) == ({}, 0)


# --- finding ----------------------------------------------------------------------------------------------------------


def test_a_name_of_two_types_needs_the_type(store: Store, actor: Actor) -> None:
    create(store, actor, {"a": b"1"}, type="model")
    data = create(store, actor, {"a": b"1"}, type="dataset")
    with pytest.raises(Conflict, match="dataset, model"):
        resolve(store, actor, "model")
    assert resolve(store, actor, "model", type="dataset").id == data.id


def test_versions_are_listed_newest_first_in_pages(store: Store, actor: Actor) -> None:
    versions = [create(store, actor, {"a": str(n).encode()}) for n in range(5)]
    trash(store, actor, versions[2].id)
    found: list[int] = []
    command = ListArtifactVersions(id=versions[0].parent_id, limit=2)
    while True:
        page = store.database.read(artifacts.list_versions, actor, command)
        found += [version.number for version in page.items]
        if page.next is None:
            break
        command = ListArtifactVersions(id=versions[0].parent_id, limit=2, cursor=page.next)
    assert found == [4, 3, 1, 0]
    trashed = ListArtifactVersions(id=versions[0].parent_id, state="trashed")
    assert [v.number for v in store.database.read(artifacts.list_versions, actor, trashed).items] == [2]
    every = ListArtifactVersions(id=versions[0].parent_id, state="any")
    assert len(store.database.read(artifacts.list_versions, actor, every).items) == 5


def test_a_list_of_versions_needs_one_owner(store: Store, actor: Actor) -> None:
    for fields in ({}, {"id": "x" * 36, "run_id": "x" * 36}, {"run_id": "x" * 36}):
        with pytest.raises(Invalid):
            store.database.read(artifacts.list_versions, actor, ListArtifactVersions(**fields))
    with pytest.raises(NotFound):
        store.database.read(artifacts.list_versions, actor, ListArtifactVersions(id="x" * 36))


def test_collections_are_listed_by_project_type_and_name(store: Store, actor: Actor) -> None:
    make_project(store.database, actor, "other")
    for project, type, name in (("p", "model", "a"), ("p", "dataset", "b"), ("other", "model", "a")):
        create(store, actor, {"a": b"1"}, project=project, type=type, name=name)

    def names(**fields: Any) -> list[str]:
        return [item.name for item in store.database.read(artifacts.list_, actor, ListArtifacts(**fields)).items]

    assert names() == ["a", "b", "a"]
    assert names(project="p") == ["b", "a"]
    assert names(project="p", type="model") == ["a"]
    assert names(name="a") == ["a", "a"]


def test_roles_and_tenants_are_kept_apart(store: Store, actor: Actor) -> None:
    version = create(store, actor, {"a": b"1"})
    viewer, stranger = make_actor(store.database, "viewer"), make_actor(store.database, organization="other")
    assert store.database.read(artifacts.get_version, viewer, Get(id=version.id)) == version
    for call, command in (
        (artifacts.create_version, CreateArtifactVersion(project="p", name="x")),
        (artifacts.set_aliases, SetAliases(id=version.id, add=("x",))),
    ):
        with pytest.raises(Forbidden):
            store.database.write(call, viewer, command)
    with pytest.raises(NotFound):
        store.database.read(artifacts.get_version, stranger, Get(id=version.id))
    with pytest.raises(NotFound):
        store.database.read(artifacts.resolve, stranger, ResolveArtifact(project="p", name="model"))

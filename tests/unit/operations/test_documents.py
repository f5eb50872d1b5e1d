"""Documents and their versions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import select

from labkeep.core.access import Actor
from labkeep.core.commands import (
    CommitVersion,
    CreateDocument,
    Get,
    GetVersion,
    ItemVerb,
    ListDocuments,
    ListVersions,
    UpdateDocument,
)
from labkeep.core.entities import Document, Json, Project, Version
from labkeep.core.errors import AlreadyExists, Forbidden, Gone, Illegal, Invalid, NotFound, Stale
from labkeep.core.lifecycle import State
from labkeep.operations import deletions, documents
from labkeep.storage import tables as t
from labkeep.storage.database import Database
from labkeep.storage.transaction import Tx
from labkeep.testing.factories import FixedClock, make_actor, make_project, make_store

ID = "018f7a2e-0000-7000-8000-00000000000a"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with make_store(tmp_path) as store:
        yield store.database


@pytest.fixture
def actor(database: Database) -> Actor:
    return make_actor(database)


@pytest.fixture
def project(database: Database, actor: Actor) -> Project:
    return make_project(database, actor, "alpha")


@pytest.fixture
def document(database: Database, actor: Actor, project: Project) -> Document:
    return create(database, actor, project, "d")


def create(database: Database, actor: Actor, project: Project | str, name: str, **fields: Any) -> Document:
    ref = project if isinstance(project, str) else project.id
    command = CreateDocument(**({"project": ref, "type": "dataset", "name": name} | fields))
    return database.write(documents.create, actor, command)


def commit(database: Database, actor: Actor, document: Document, body: Json, **fields: Any) -> Version:
    return database.write(documents.commit, actor, CommitVersion(id=document.id, body=body, **fields))


def names(database: Database, actor: Actor, **fields: Any) -> list[str]:
    return [found.name for found in database.read(documents.list_, actor, ListDocuments(**fields)).items]


def events(tx: Tx, _: Actor, __: None) -> list[tuple[str, str, Json]]:
    e = t.audit_events.c
    return [tuple(row) for row in tx.execute(select(e.event, e.subject_id, e.details).order_by(e.seq))]


# --- creating ---------------------------------------------------------------------------------------------------------


def test_a_document_is_made_in_a_project_by_id_or_name(database: Database, actor: Actor, project: Project) -> None:
    by_id = create(database, actor, project, "one", tags=("b", "a", "b"), metadata={"k": 1}, status="open")
    by_name = create(database, actor, "alpha", "two")
    assert by_id.project_id == by_name.project_id == project.id
    assert (by_id.handle, by_id.tags, by_id.status, by_id.latest) == ("one", ("b", "a"), "open", 0)
    assert database.read(documents.get, actor, Get(id=by_id.id)) == by_id
    with pytest.raises(NotFound, match="project 'beta' not found"):
        create(database, actor, "beta", "three")


def test_a_body_makes_the_first_version(database: Database, actor: Actor, project: Project) -> None:
    document = create(database, actor, project, "d", body={"x": 1}, message="why")
    version = database.read(documents.get_version, actor, GetVersion(id=document.id))
    assert document.latest == 1
    assert (version.number, version.body, version.parent, version.message) == (1, {"x": 1}, None, "why")
    assert version.author == actor.name


def test_a_handle_is_unique_within_project_and_type(database: Database, actor: Actor, project: Project) -> None:
    first = create(database, actor, project, "d")
    with pytest.raises(AlreadyExists, match="document 'd' exists already") as caught:
        create(database, actor, project, "d")
    assert caught.value.details["id"] == first.id
    assert create(database, actor, project, "d", exist_ok=True) == first
    assert create(database, actor, project, "d", type="prompt").id != first.id
    assert create(database, actor, make_project(database, actor), "d").id != first.id
    assert create(database, actor, project, "d", handle="other").handle == "other"


def test_documents_without_a_handle_may_share_a_name(database: Database, actor: Actor, project: Project) -> None:
    ids = {create(database, actor, project, "d", handle=None).id for _ in range(3)}
    assert len(ids) == 3
    assert names(database, actor, name="d") == ["d"] * 3


def test_the_same_request_with_an_id_makes_one_document(database: Database, actor: Actor, project: Project) -> None:
    first = create(database, actor, project, "d", id=ID, body={"x": 1})
    assert create(database, actor, project, "d", id=ID, body={"x": 1}) == first
    with pytest.raises(AlreadyExists, match="belongs to another document"):
        create(database, actor, project, "e", id=ID, type="prompt")
    database.write(deletions.trash_item, actor, ItemVerb(id=ID))
    with pytest.raises(Gone):
        create(database, actor, project, "d", id=ID)


def test_an_id_of_another_workspace_is_taken_without_a_word_about_it(
    database: Database, actor: Actor, project: Project
) -> None:
    create(database, actor, project, "d", id=ID)
    neighbour = make_actor(database, workspace="other")
    with pytest.raises(AlreadyExists) as caught:
        create(database, neighbour, make_project(database, neighbour), "d", id=ID)
    assert dict(caught.value.details) == {}
    stranger = make_actor(database, organization="other")
    assert create(database, stranger, make_project(database, stranger), "d", id=ID).id == ID


def test_an_id_must_be_a_uuid(database: Database, actor: Actor, project: Project) -> None:
    with pytest.raises(Invalid, match="not a UUID"):
        create(database, actor, project, "d", id="z" * 36)


def test_trashing_a_document_frees_its_name(database: Database, actor: Actor, document: Document) -> None:
    database.write(deletions.trash_item, actor, ItemVerb(id=document.id))
    assert create(database, actor, document.parent_id, "d").id != document.id
    with pytest.raises(Gone):
        database.read(documents.get, actor, Get(id=document.id))
    kept = database.read(documents.get, actor, Get(id=document.id, include="trashed"))
    assert kept.state == State.trashed


def test_an_archived_project_takes_no_documents(database: Database, actor: Actor) -> None:
    make_project(database, actor, "old", state=State.archived)
    with pytest.raises(Illegal, match="unarchive it first"):
        create(database, actor, "old", "d")


# --- versions ---------------------------------------------------------------------------------------------------------


def test_versions_are_numbered_and_know_what_they_were_made_from(
    database: Database, actor: Actor, document: Document
) -> None:
    first = commit(database, actor, document, {"x": 1})
    second = commit(database, actor, document, {"x": 2}, message="more")
    third = commit(database, actor, document, {"x": 3}, parent=1)
    assert [v.number for v in (first, second, third)] == [1, 2, 3]
    assert [v.parent for v in (first, second, third)] == [None, 1, 1]
    assert database.read(documents.get, actor, Get(id=document.id)).latest == 3


def test_an_equal_body_answers_the_newest_version(database: Database, actor: Actor, document: Document) -> None:
    first = commit(database, actor, document, {"a": 1, "b": {"c": 1, "d": [1]}})
    assert commit(database, actor, document, {"b": {"d": [1], "c": 1}, "a": 1}) == first
    second = commit(database, actor, document, {"a": 2})
    again = commit(database, actor, document, {"a": 1, "b": {"c": 1, "d": [1]}})
    assert (second.number, again.number, again.digest) == (2, 3, first.digest)


@pytest.mark.parametrize("parent", [0, 2, -1, 10**30])
def test_a_parent_must_be_there(database: Database, actor: Actor, document: Document, parent: int) -> None:
    commit(database, actor, document, {"x": 1})
    with pytest.raises(Invalid, match="has no version"):
        commit(database, actor, document, {"x": 2}, parent=parent)


def test_digests_are_of_the_canonical_body() -> None:
    assert documents.digest_of({}) == "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    assert documents.digest_of({"b": 1, "a": "ä"}) == documents.digest_of({"a": "ä", "b": 1})
    with pytest.raises(Invalid, match="cannot be stored as JSON"):
        documents.digest_of({"x": "\ud800"})


def test_a_version_is_had_by_number_and_the_newest_without_one(
    database: Database, actor: Actor, document: Document
) -> None:
    with pytest.raises(NotFound, match="document d has no versions yet"):
        database.read(documents.get_version, actor, GetVersion(id=document.id))
    first = commit(database, actor, document, {"x": 1})
    second = commit(database, actor, document, {"x": 2})
    assert database.read(documents.get_version, actor, GetVersion(id=document.id)) == second
    assert database.read(documents.get_version, actor, GetVersion(id=document.id, number=1)) == first
    for number in (0, 3, -1, 10**30):
        with pytest.raises(NotFound, match="has no version"):
            database.read(documents.get_version, actor, GetVersion(id=document.id, number=number))


def test_versions_are_listed_newest_first_in_pages(database: Database, actor: Actor, document: Document) -> None:
    for n in range(5):
        commit(database, actor, document, {"x": n})
    seen, cursor = [], None
    while True:
        command = ListVersions(id=document.id, limit=2, cursor=cursor)
        page = database.read(documents.list_versions, actor, command)
        seen.append([version.number for version in page.items])
        cursor = page.next
        if cursor is None:
            break
    assert seen == [[5, 4], [3, 2], [1]]


def test_an_archived_document_takes_no_versions_and_shows_those_it_has(
    database: Database, actor: Actor, document: Document
) -> None:
    commit(database, actor, document, {"x": 1})
    database.write(deletions.archive_item, actor, ItemVerb(id=document.id))
    with pytest.raises(Illegal, match="unarchive it first"):
        commit(database, actor, document, {"x": 2})
    assert database.read(documents.get_version, actor, GetVersion(id=document.id)).number == 1


# --- editing and listing ----------------------------------------------------------------------------------------------


def test_an_edit_merges_metadata_and_moves_the_version_on(database: Database, actor: Actor, document: Document) -> None:
    edit = UpdateDocument(id=document.id, description="about", metadata={"a": 1, "b": {"c": 2}}, status="open")
    first = database.write(documents.update, actor, edit)
    second = database.write(documents.update, actor, UpdateDocument(id=document.id, metadata={"b": {"c": None}}))
    assert (first.description, first.status, first.version) == ("about", "open", 2)
    assert second.metadata == {"a": 1, "b": {}}
    assert database.read(documents.get, actor, Get(id=document.id)) == second
    assert names(database, actor, q="metadata.a = 1") == ["d"]
    with pytest.raises(Stale):
        database.write(documents.update, actor, UpdateDocument(id=document.id, name="x", if_version=1))


def test_an_edit_that_changes_nothing_leaves_no_trace(database: Database, actor: Actor, document: Document) -> None:
    before = database.read(events, actor, None)
    assert database.write(documents.update, actor, UpdateDocument(id=document.id, name="d")) == document
    assert database.read(events, actor, None) == before


def test_renaming_takes_the_handle_along_unless_it_is_another(
    database: Database, actor: Actor, project: Project, document: Document
) -> None:
    create(database, actor, project, "taken")
    renamed = database.write(documents.update, actor, UpdateDocument(id=document.id, name="new"))
    assert (renamed.name, renamed.handle) == ("new", "new")
    assert create(database, actor, project, "d").id != document.id
    with pytest.raises(AlreadyExists):
        database.write(documents.update, actor, UpdateDocument(id=document.id, name="taken"))
    slug = create(database, actor, project, "Shown", handle="slug")
    assert database.write(documents.update, actor, UpdateDocument(id=slug.id, name="taken")).handle == "slug"
    free = create(database, actor, project, "Free", handle=None)
    assert database.write(documents.update, actor, UpdateDocument(id=free.id, name="taken")).handle is None


def test_lists_are_newest_first_and_filter(database: Database, actor: Actor, project: Project) -> None:
    other = make_project(database, actor, "beta")
    made = [create(database, actor, project, name) for name in ("a", "b", "c")]
    create(database, actor, other, "a", type="prompt", status="open")
    assert names(database, actor) == ["a", "c", "b", "a"]
    assert names(database, actor, project="alpha") == ["c", "b", "a"]
    assert names(database, actor, type="prompt") == ["a"]
    assert names(database, actor, status="open") == ["a"]
    assert names(database, actor, name="a") == ["a", "a"]
    assert names(database, actor, ids=[made[0].id, made[2].id, "z" * 36]) == ["c", "a"]
    assert names(database, actor, ids=["z" * 36]) == []
    assert names(database, actor, state="archived") == []
    assert names(database, actor, q='name = "b" or type = prompt') == ["a", "b"]
    assert names(database, actor, order="name") == ["a", "a", "b", "c"]


def test_pages_follow_a_cursor_and_stand_beside_an_id_that_is_gone(
    database: Database, actor: Actor, project: Project
) -> None:
    made = [create(database, actor, project, f"d{n}") for n in range(5)]
    first = database.read(documents.list_, actor, ListDocuments(limit=2))
    second = database.read(documents.list_, actor, ListDocuments(limit=2, cursor=first.next))
    assert [item.name for item in first.items + second.items] == ["d4", "d3", "d2", "d1"]
    database.write(deletions.trash_item, actor, ItemVerb(id=made[2].id))
    assert names(database, actor, after=made[2].id, limit=1) == ["d1"]
    assert names(database, actor, before=made[2].id, limit=1) == ["d3"]
    assert names(database, actor, before=made[0].id, limit=2) == ["d3", "d1"]


# --- who may, and what is noted ---------------------------------------------------------------------------------------


def test_a_viewer_looks_and_does_not_touch(database: Database, actor: Actor, document: Document) -> None:
    viewer = make_actor(database, "viewer")
    assert database.read(documents.get, viewer, Get(id=document.id)) == document
    for attempt in (
        lambda: create(database, viewer, "alpha", "x"),
        lambda: commit(database, viewer, document, {}),
        lambda: database.write(documents.update, viewer, UpdateDocument(id=document.id, name="x")),
    ):
        with pytest.raises(Forbidden, match=r"document\.write"):
            attempt()


def test_another_tenants_document_is_not_found(database: Database, actor: Actor, document: Document) -> None:
    commit(database, actor, document, {"x": 1})
    stranger = make_actor(database, organization="other")
    for attempt in (
        lambda: database.read(documents.get, stranger, Get(id=document.id)),
        lambda: database.read(documents.get_version, stranger, GetVersion(id=document.id)),
        lambda: database.read(documents.list_versions, stranger, ListVersions(id=document.id)),
        lambda: database.write(documents.update, stranger, UpdateDocument(id=document.id, name="x")),
        lambda: commit(database, stranger, document, {}),
    ):
        with pytest.raises(NotFound):
            attempt()
    assert names(database, stranger) == []


def test_the_audit_trail_holds_what_happened_and_no_content(database: Database, actor: Actor, project: Project) -> None:
    document = create(database, actor, project, "SECRET", body={"SECRET": 1}, message="SECRET")
    commit(database, actor, document, {"SECRET": 2}, message="SECRET")
    database.write(documents.update, actor, UpdateDocument(id=document.id, description="SECRET"))
    found = database.read(events, actor, None)
    assert [event for event, subject, _ in found if subject == document.id] == [
        "document.created",
        "document.committed",
        "document.committed",
        "document.updated",
    ]
    assert "SECRET" not in msgspec.json.encode(found).decode()


def test_the_time_of_a_version_is_when_it_was_committed(database: Database, actor: Actor, document: Document) -> None:
    assert isinstance(database.clock, FixedClock)
    database.clock.advance(hours=1)
    version = commit(database, actor, document, {"x": 1})
    assert version.created_at == database.clock.now
    assert database.read(documents.get, actor, Get(id=document.id)).updated_at == database.clock.now

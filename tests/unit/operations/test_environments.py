"""Environments bound to versions, and links between objects."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import select

from labkeep.core.access import Actor
from labkeep.core.commands import (
    BindEnvironment,
    CommitVersion,
    CreateDocument,
    CreateLink,
    GetEnvironment,
    ItemVerb,
    ListEnvironments,
    ListLinks,
    RemoveLink,
)
from labkeep.core.entities import Document, Environment, Item, Json, Link, Project
from labkeep.core.errors import AlreadyExists, Forbidden, Gone, Illegal, Invalid, NotFound
from labkeep.core.lifecycle import OnDelete, State
from labkeep.operations import deletions, documents, environments
from labkeep.storage import tables as t
from labkeep.storage.database import Database
from labkeep.storage.transaction import Tx
from labkeep.testing.factories import make_actor, make_document, make_project, make_run, make_store


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
    """Has two versions."""
    command = CreateDocument(project=project.id, type="prompt", name="greeting", body={"x": 1})
    document = database.write(documents.create, actor, command)
    database.write(documents.commit, actor, CommitVersion(id=document.id, body={"x": 2}))
    return document


def bind(
    database: Database, actor: Actor, document_id: str | None, number: int | None = None, **fields: Any
) -> Environment:
    command = BindEnvironment(
        **({"project": "alpha", "name": "production", "document_id": document_id, "number": number} | fields)
    )
    return database.write(environments.bind, actor, command)


def get(database: Database, actor: Actor, name: str = "production") -> Environment:
    return database.read(environments.get, actor, GetEnvironment(project="alpha", name=name))


def link(database: Database, actor: Actor, source: Item, target: Item, **fields: Any) -> Link:
    command = CreateLink(**({"source_id": source.id, "target_id": target.id, "type": "uses"} | fields))
    return database.write(environments.link, actor, command)


def links(database: Database, actor: Actor, item: Item, **fields: Any) -> list[Link]:
    return database.read(environments.list_links, actor, ListLinks(id=item.id, **fields)).items


def events(tx: Tx, _: Actor, __: None) -> list[tuple[str, str, Json]]:
    e = t.audit_events.c
    return [tuple(row) for row in tx.execute(select(e.event, e.subject_id, e.details).order_by(e.seq))]


# --- environments -----------------------------------------------------------------------------------------------------


def test_an_environment_is_bound_to_the_newest_version_unless_one_is_named(
    database: Database, actor: Actor, document: Document
) -> None:
    bound = bind(database, actor, document.id)
    assert (bound.document_id, bound.number, bound.bound_by) == (document.id, 2, actor.name)
    assert get(database, actor) == bound
    earlier = bind(database, actor, document.id, 1)
    assert (earlier.id, earlier.number) == (bound.id, 1)
    assert get(database, actor) == earlier


def test_an_environment_is_unbound_and_stays(database: Database, actor: Actor, document: Document) -> None:
    bound = bind(database, actor, document.id)
    freed = bind(database, actor, None)
    assert (freed.id, freed.document_id, freed.number) == (bound.id, None, None)
    assert bind(database, actor, None, name="staging").document_id is None
    with pytest.raises(Invalid, match="needs a document"):
        bind(database, actor, None, 1)


def test_binding_the_same_again_changes_nothing(database: Database, actor: Actor, document: Document) -> None:
    bound = bind(database, actor, document.id)
    before = database.read(events, actor, None)
    assert bind(database, make_actor(database, "editor"), document.id, 2) == bound
    assert database.read(events, actor, None) == before


@pytest.mark.parametrize("number", [0, 3, -1, 10**30])
def test_only_a_version_that_is_there_can_be_bound(
    database: Database, actor: Actor, document: Document, number: int
) -> None:
    with pytest.raises(Invalid, match="has no version"):
        bind(database, actor, document.id, number)


def test_a_document_without_versions_cannot_be_bound(database: Database, actor: Actor, project: Project) -> None:
    with pytest.raises(Invalid, match="commit one first"):
        bind(database, actor, make_document(database, actor, project).id)


def test_a_document_of_another_project_cannot_be_bound(database: Database, actor: Actor, document: Document) -> None:
    make_project(database, actor, "beta")
    with pytest.raises(Invalid, match="another project"):
        bind(database, actor, document.id, project="beta")


def test_a_document_in_the_trash_cannot_be_bound(database: Database, actor: Actor, document: Document) -> None:
    database.write(deletions.trash_item, actor, ItemVerb(id=document.id))
    with pytest.raises(Gone):
        bind(database, actor, document.id)


def test_an_archived_project_binds_nothing(database: Database, actor: Actor, document: Document) -> None:
    database.write(deletions.archive_item, actor, ItemVerb(id=document.parent_id))
    with pytest.raises(Illegal, match="unarchive it first"):
        bind(database, actor, document.id)


def test_environments_of_a_project_are_listed_in_pages(database: Database, actor: Actor, document: Document) -> None:
    for name in ("a", "b", "c"):
        bind(database, actor, document.id, name=name)
    first = database.read(environments.list_, actor, ListEnvironments(project="alpha", limit=2))
    rest = database.read(environments.list_, actor, ListEnvironments(project="alpha", limit=2, cursor=first.next))
    assert [found.name for found in first.items + rest.items] == ["c", "b", "a"]
    assert rest.next is None


def test_an_environment_that_is_not_there_is_not_found(database: Database, actor: Actor, document: Document) -> None:
    bind(database, actor, document.id)
    with pytest.raises(NotFound, match="environment 'staging' not found in project alpha"):
        get(database, actor, "staging")
    stranger = make_actor(database, organization="other")
    make_project(database, stranger, "alpha")
    with pytest.raises(NotFound):
        get(database, stranger)
    with pytest.raises(NotFound):
        bind(database, stranger, document.id)


def test_a_viewer_sees_environments_and_does_not_bind_them(
    database: Database, actor: Actor, document: Document
) -> None:
    bound = bind(database, actor, document.id)
    viewer = make_actor(database, "viewer")
    assert get(database, viewer) == bound
    with pytest.raises(Forbidden, match=r"environment\.write"):
        bind(database, viewer, None)


def test_bindings_are_noted_with_what_was_bound_before(database: Database, actor: Actor, document: Document) -> None:
    bound = bind(database, actor, document.id, 1)
    bind(database, actor, document.id, 2)
    bind(database, actor, None)
    found = [(event, details) for event, subject, details in database.read(events, actor, None) if subject == bound.id]
    nothing, one, two = ({"document_id": d, "number": n} for d, n in ((None, None), (document.id, 1), (document.id, 2)))
    assert found == [
        ("environment.bound", one | {"before": nothing}),
        ("environment.bound", two | {"before": one}),
        ("environment.unbound", nothing | {"before": two}),
    ]


# --- links ------------------------------------------------------------------------------------------------------------


def test_a_link_is_seen_from_both_ends(database: Database, actor: Actor, document: Document) -> None:
    run = make_run(database, actor)
    made = link(database, actor, run, document)
    assert (made.source_id, made.target_id, made.on_delete) == (run.id, document.id, OnDelete.restrict)
    assert links(database, actor, run) == links(database, actor, document) == [made]
    other = link(database, actor, run, document, type="made", on_delete=OnDelete.keep)
    assert links(database, actor, run) == [other, made]
    assert links(database, actor, run, limit=1) == [other]


def test_an_edge_is_there_once(database: Database, actor: Actor, document: Document) -> None:
    run = make_run(database, actor)
    made = link(database, actor, run, document)
    with pytest.raises(AlreadyExists, match="'uses' already") as caught:
        link(database, actor, run, document, on_delete=OnDelete.keep)
    assert caught.value.details["id"] == made.id
    assert link(database, actor, document, run).id != made.id


def test_nothing_depends_on_itself(database: Database, actor: Actor, document: Document) -> None:
    with pytest.raises(Invalid, match="on itself"):
        link(database, actor, document, document)


def test_both_ends_must_be_visible(database: Database, actor: Actor, document: Document) -> None:
    stranger = make_actor(database, organization="other")
    theirs = make_run(database, stranger)
    for source, target in ((document, theirs), (theirs, document)):
        with pytest.raises(NotFound):
            link(database, actor, source, target)
    made = link(database, actor, make_run(database, actor), document)
    with pytest.raises(NotFound, match="link"):
        database.write(environments.unlink, stranger, RemoveLink(id=made.id))
    neighbour = make_actor(database, workspace="other")
    with pytest.raises(NotFound, match="link"):
        database.write(environments.unlink, neighbour, RemoveLink(id=made.id))
    with pytest.raises(NotFound):
        links(database, stranger, document)


def test_an_archived_object_may_be_depended_on_and_gains_no_dependence(database: Database, actor: Actor) -> None:
    run, old = make_run(database, actor), make_run(database, actor, state=State.archived)
    assert link(database, actor, run, old).target_id == old.id
    with pytest.raises(Illegal, match="unarchive it first"):
        link(database, actor, old, run)


def test_a_link_is_taken_away_once(database: Database, actor: Actor, document: Document) -> None:
    run = make_run(database, actor)
    made = link(database, actor, run, document)
    assert database.write(environments.unlink, actor, RemoveLink(id=made.id)) == made
    assert links(database, actor, run) == []
    for id in (made.id, "z" * 36, ""):
        with pytest.raises(NotFound, match="link"):
            database.write(environments.unlink, actor, RemoveLink(id=id))


def test_who_may_not_write_the_source_does_not_link_it(database: Database, actor: Actor, document: Document) -> None:
    viewer = make_actor(database, "viewer")
    run = make_run(database, actor)
    made = link(database, actor, run, document)
    with pytest.raises(Forbidden, match=r"run\.write"):
        link(database, viewer, run, document, type="made")
    with pytest.raises(Forbidden, match=r"run\.write"):
        database.write(environments.unlink, viewer, RemoveLink(id=made.id))
    assert links(database, viewer, run) == [made]


def test_links_are_noted_without_content(database: Database, actor: Actor, document: Document) -> None:
    run = make_run(database, actor)
    made = link(database, actor, run, document, type="SECRET", on_delete=OnDelete.cascade)
    database.write(environments.unlink, actor, RemoveLink(id=made.id))
    found = [event for event in database.read(events, actor, None) if event[1] == run.id]
    assert found == [
        ("run.linked", run.id, {"link_id": made.id, "target_id": document.id, "on_delete": "cascade"}),
        ("run.unlinked", run.id, {"link_id": made.id, "target_id": document.id}),
    ]
    assert b"SECRET" not in msgspec.json.encode(found)

"""Who holds how many bytes, and how much of it sits in the trash."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from labkeep.core.access import Actor
from labkeep.core.commands import Get, GetUsage, ItemVerb, Usage
from labkeep.core.errors import Forbidden, Invalid
from labkeep.core.lifecycle import Status
from labkeep.operations import Store, deletions, projects, usage
from labkeep.server import make_worker
from labkeep.testing.factories import make_actor, make_document, make_project, make_run, make_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with make_store(tmp_path) as store:
        yield store


@pytest.fixture
def actor(store: Store) -> Actor:
    return make_actor(store.database)


def lines(store: Store, reader: Actor, by: str) -> list[Usage]:
    return store.database.read(usage.by, reader, GetUsage(by=by)).items


def fill(store: Store, actor: Actor) -> list[str]:
    """Two projects: 100 + 20 bytes in one, of which 20 are in the trash, 50 in the other."""
    big, small = make_project(store.database, actor, "big"), make_project(store.database, actor, "small")
    kept = make_run(store.database, actor, big, bytes=100)
    trashed = make_run(store.database, actor, big, bytes=20, status=Status.finished)
    document = make_document(store.database, actor, small, bytes=50)
    store.database.write(deletions.trash_item, actor, ItemVerb(id=trashed.id))
    return [big.id, small.id, kept.id, trashed.id, document.id]


def test_bytes_are_added_up_by_project_largest_first(store: Store, actor: Actor) -> None:
    big, small, *_ = fill(store, actor)
    found = lines(store, actor, "project")
    assert [(line.id, line.name, line.kind) for line in found] == [(big, "big", "project"), (small, "small", "project")]
    assert [(line.items, line.bytes, line.trashed_items, line.trashed_bytes) for line in found] == [
        (3, 120, 1, 20),
        (2, 50, 0, 0),
    ]


def test_bytes_are_added_up_by_kind_and_by_user(store: Store, actor: Actor) -> None:
    fill(store, actor)
    by_kind = {line.name: (line.items, line.bytes, line.trashed_bytes) for line in lines(store, actor, "kind")}
    assert by_kind == {"run": (2, 120, 20), "document": (1, 50, 0), "project": (2, 0, 0)}
    assert [(line.name, line.bytes) for line in lines(store, actor, "user")] == [(actor.user, 170)]


def test_what_was_purged_holds_nothing(store: Store, actor: Actor) -> None:
    *_, trashed, _document = fill(store, actor)
    store.database.write(deletions.purge_item, actor, ItemVerb(id=trashed))
    make_worker(store).run_all()
    big = lines(store, actor, "project")[0]
    assert (big.items, big.bytes, big.trashed_bytes) == (2, 100, 0)


def test_an_empty_workspace_has_no_lines_and_other_groups_are_refused(store: Store, actor: Actor) -> None:
    assert lines(store, actor, "project") == []
    with pytest.raises(Invalid, match="grouped by one of organization, workspace, project, kind, user, tag, run"):
        lines(store, actor, "moon")


@pytest.mark.parametrize("place", [{"organization": "other"}, {"workspace": "next door"}])
def test_others_see_nothing_of_it(store: Store, actor: Actor, place: dict[str, str]) -> None:
    fill(store, actor)
    assert lines(store, make_actor(store.database, **place), "kind") == []
    assert len(lines(store, make_actor(store.database, "viewer"), "kind")) == 3


def test_bytes_are_added_up_by_tag_and_an_object_counts_under_each_of_its_tags(store: Store, actor: Actor) -> None:
    project = make_project(store.database, actor, "p")
    make_run(store.database, actor, project, bytes=100, tags=("prod", "nightly"))
    both = make_run(store.database, actor, project, bytes=20, status=Status.finished, tags=("prod",))
    store.database.write(deletions.trash_item, actor, ItemVerb(id=both.id))
    found = [(line.name, line.items, line.bytes, line.trashed_bytes) for line in lines(store, actor, "tag")]
    assert found == [("prod", 2, 120, 20), ("nightly", 1, 100, 0)]


def test_the_largest_runs_of_a_project_come_first(store: Store, actor: Actor) -> None:
    big, small, kept, trashed, _ = fill(store, actor)
    make_run(store.database, actor, store.database.read(projects.get, actor, Get(id=small)), bytes=70)
    asked = GetUsage(by="run", project=big, limit=2)
    found = store.database.read(usage.by, actor, asked).items
    assert [(line.id, line.bytes, line.trashed_items, line.trashed_bytes) for line in found] == [
        (kept, 100, 0, 0),
        (trashed, 20, 1, 20),
    ]


def test_only_owners_look_beyond_their_workspace(store: Store, actor: Actor) -> None:
    fill(store, actor)
    neighbour = make_actor(store.database, workspace="next door")
    make_project(store.database, neighbour, "theirs")
    found = {line.name: line.items for line in lines(store, actor, "workspace")}
    assert found == {"workspace": 5, "next door": 1}
    assert [(line.name, line.items) for line in lines(store, actor, "organization")] == [("organization", 6)]
    with pytest.raises(Forbidden, match="lacks usage"):
        lines(store, make_actor(store.database, "maintainer"), "workspace")
    stranger = make_actor(store.database, organization="other")
    assert lines(store, stranger, "workspace") == lines(store, stranger, "organization") == []

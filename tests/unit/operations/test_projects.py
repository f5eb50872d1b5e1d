"""Projects: names, edits and lists."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labkeep.core.access import Actor
from labkeep.core.commands import CreateProject, Get, ListProjects, UpdateProject
from labkeep.core.errors import AlreadyExists, Forbidden, Invalid, NotFound, Stale
from labkeep.operations import Store, audits, projects
from labkeep.testing.factories import make_actor, make_project, make_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with make_store(tmp_path) as store:
        yield store


@pytest.fixture
def actor(store: Store) -> Actor:
    return make_actor(store.database)


def create(store: Store, actor: Actor, name: str = "p", **more: Any) -> Any:
    return store.database.write(projects.create, actor, CreateProject(name=name, **more))


def update(store: Store, actor: Actor, id: str, **more: Any) -> Any:
    return store.database.write(projects.update, actor, UpdateProject(id=id, **more))


def test_a_project_is_had_by_id_and_by_name(store: Store, actor: Actor) -> None:
    made = create(
        store, actor, description="d", tags=("a",), metadata={"m": 1}, settings={"grace_days": 3}, extra={"e": 1}
    )
    assert (made.created_by, made.parent_id, made.version) == (actor.user, actor.workspace_id, 1)
    for reference in (made.id, "p"):
        assert store.database.read(projects.get, actor, Get(id=reference)) == made
    for reference in ("q", "00000000-0000-7000-8000-000000000000"):
        with pytest.raises(NotFound):
            store.database.read(projects.get, actor, Get(id=reference))


def test_a_name_belongs_to_one_project_of_the_workspace(store: Store, actor: Actor) -> None:
    made = create(store, actor)
    with pytest.raises(AlreadyExists, match="exists already") as refused:
        create(store, actor)
    assert refused.value.details["id"] == made.id
    assert create(store, actor, exist_ok=True) == made
    assert create(store, make_actor(store.database, workspace="next door")).id != made.id
    assert create(store, make_actor(store.database, organization="other")).id != made.id
    assert create(store, actor, name="P").id != made.id


def test_edits_merge_and_count(store: Store, actor: Actor) -> None:
    made = create(store, actor, metadata={"a": {"b": 1, "c": 2}}, settings={"x": 1}, tags=("old",))
    after = update(
        store, actor, "p", metadata={"a": {"b": None, "d": 3}}, settings={"y": 2}, tags=("new",), description="d"
    )
    assert after.metadata == {"a": {"c": 2, "d": 3}}
    assert (after.settings, after.tags, after.description) == ({"x": 1, "y": 2}, ("new",), "d")
    assert after.version == made.version + 1
    assert update(store, actor, made.id, description="d") == after, "an edit that changes nothing counts for nothing"
    with pytest.raises(Stale):
        update(store, actor, made.id, description="e", if_version=1)
    assert update(store, actor, made.id, description="e", if_version=2).version == 3


def test_a_new_name_must_be_free(store: Store, actor: Actor) -> None:
    first, _ = create(store, actor, "a"), create(store, actor, "b")
    with pytest.raises(AlreadyExists):
        update(store, actor, "a", name="b")
    assert update(store, actor, "a", name="c").handle == "c"
    assert store.database.read(projects.get, actor, Get(id="c")).id == first.id
    with pytest.raises(NotFound):
        store.database.read(projects.get, actor, Get(id="a"))
    create(store, actor, "a")


def test_lists_are_newest_first_and_found_by_name_tag_and_metadata(store: Store, actor: Actor) -> None:
    made = [create(store, actor, name, tags=(name,), metadata={"n": name}) for name in ("a", "b", "c")]

    def listed(**asked: Any) -> list[str]:
        return [p.name for p in store.database.read(projects.list_, actor, ListProjects(**asked)).items]

    assert listed() == ["c", "b", "a"]
    assert listed(name="b") == listed(q='tag = "b"') == listed(q='metadata.n = "b"') == listed(q='name ~ "B"') == ["b"]
    assert listed(order="name") == ["a", "b", "c"]
    update(store, actor, made[0].id, tags=(), metadata={"n": None})
    assert listed(q='tag = "a"') == listed(q='metadata.n = "a"') == []
    assert listed(q="order by metadata.n desc") == ["c", "b", "a"]
    with pytest.raises(Invalid):
        listed(q="nonsense = 1")


def test_every_edit_is_in_the_chain_without_its_content(store: Store, actor: Actor) -> None:
    made = create(store, actor)
    update(store, actor, "p", description="secret words")
    events = store.database.read(audits.list_, actor, audits.ListAudit(id=made.id, ascending=True)).items
    assert [(e.event, e.details) for e in events] == [
        ("project.created", {}),
        ("project.updated", {"fields": ["description"]}),
    ]


def test_viewers_look_and_strangers_find_nothing(store: Store, actor: Actor) -> None:
    made = create(store, actor)
    viewer = make_actor(store.database, "viewer")
    assert store.database.read(projects.get, viewer, Get(id="p")) == made
    for ask in (lambda: create(store, viewer, "q"), lambda: update(store, viewer, "p", description="x")):
        with pytest.raises(Forbidden, match=r"project\.write"):
            ask()
    for place in ({"organization": "other"}, {"workspace": "next door"}):
        stranger = make_actor(store.database, **place)
        for reference in ("p", made.id):
            with pytest.raises(NotFound):
                store.database.read(projects.get, stranger, Get(id=reference))
            with pytest.raises(NotFound):
                update(store, stranger, reference, description="x")
        assert store.database.read(projects.list_, stranger, ListProjects()).items == []


def test_names_in_any_script_are_kept_as_they_are(store: Store, actor: Actor) -> None:
    for name in ("日本", "e\u0301", "é", "a/b", "a b", "'; DROP TABLE items; --", "%", "null", "0"):
        assert create(store, actor, name).name == name
        assert store.database.read(projects.get, actor, Get(id=name)).name == name


def test_a_project_is_made_by_the_first_thing_in_it(store: Store, actor: Actor) -> None:
    from labkeep.core.commands import CreateRun
    from labkeep.operations import runs

    run = store.database.write(runs.create, actor, CreateRun(project="fresh"))
    assert store.database.read(projects.get, actor, Get(id="fresh")).id == run.project_id
    with pytest.raises(NotFound):
        store.database.write(runs.create, actor, CreateRun(project="00000000-0000-7000-8000-000000000000"))
    assert make_project(store.database, actor).id != run.project_id

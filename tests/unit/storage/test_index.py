"""What of an object goes into the index, and that edits leave nothing stale behind."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import select

from labkeep.core.access import Actor
from labkeep.core.entities import Run
from labkeep.core.filters import INDEXED_TEXT, MAX_FIELD
from labkeep.operations import Store
from labkeep.storage import index
from labkeep.storage import tables as t
from labkeep.storage.transaction import Tx
from labkeep.testing.factories import make_actor, make_document, make_project, make_run, make_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with make_store(tmp_path) as store:
        yield store


@pytest.fixture
def actor(store: Store) -> Actor:
    return make_actor(store.database)


def indexed(store: Store, actor: Actor, id: str) -> dict[str, tuple[str, float | None, str | None]]:
    def read(tx: Tx, _actor: Actor, _command: None) -> dict[str, Any]:
        f = t.fields.c
        rows = tx.execute(select(f.path, f.type, f.num, f.text).where(f.item_id == id))
        return {path: (type, num, text) for path, type, num, text in rows}

    return store.database.read(read, actor, None)


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (1, ("n", 1.0, None)),
        (-0.5, ("n", -0.5, None)),
        (2**63, ("n", 2.0**63, None)),
        (10**400, ("n", math.inf, None)),
        (-(10**400), ("n", -math.inf, None)),
        (math.inf, ("n", math.inf, None)),
        (math.nan, ("n", None, None)),
        (True, ("b", 1.0, None)),
        (False, ("b", 0.0, None)),
        ("", ("t", None, "")),
        ("text", ("t", None, "text")),
        ("é" * 300, ("t", None, "é" * INDEXED_TEXT)),
        ("a\x00b", ("t", None, "ab")),
        ([1, 2], ("o", None, None)),
        ({}, ("o", None, None)),
    ],
)
def test_a_value_is_kept_by_its_kind(store: Store, actor: Actor, value: Any, stored: tuple[Any, ...]) -> None:
    assert index.value_of(value) == stored
    if not isinstance(value, int) or abs(value) < 2**63:
        run = make_run(store.database, actor, config={"v": value})
        assert indexed(store, actor, run.id) == {"config.v": stored}


def test_nested_values_are_kept_by_their_dotted_paths(store: Store, actor: Actor) -> None:
    run = make_run(
        store.database,
        actor,
        config={"a": {"b": {"c": 1}, "empty": {}}, "a.b": {"d": 2}, "none": None},
        summary={"a": {"b": {"c": 3}}},
        metadata={"m": "x"},
        tags=("one", "two"),
    )
    assert {path: row[1] for path, row in indexed(store, actor, run.id).items()} == {
        "config.a.b.c": 1.0,
        "config.a.empty": None,
        "config.a.b.d": 2.0,
        "summary.a.b.c": 3.0,
        "metadata.m": None,
        "tag.one": 1.0,
        "tag.two": 1.0,
    }


def test_a_path_that_is_too_long_or_has_a_nul_is_left_out(store: Store, actor: Actor) -> None:
    longest = "k" * (MAX_FIELD - len("config."))
    run = make_run(store.database, actor, config={longest: 1, longest + "k": 2, "a\x00b": 3, "ok": 4})
    assert set(indexed(store, actor, run.id)) == {f"config.{longest}", "config.ok"}


def test_so_many_fields_of_one_object_are_indexed_and_no_more(store: Store, actor: Actor) -> None:
    run = make_run(store.database, actor, config={f"k{number}": number for number in range(index.MAX_FIELDS + 100)})
    assert len(indexed(store, actor, run.id)) == index.MAX_FIELDS


def test_documents_and_projects_are_found_by_tags_and_metadata(store: Store, actor: Actor) -> None:
    project = make_project(store.database, actor, tags=("p",), metadata={"m": 1})
    document = make_document(store.database, actor, project, tags=("d",), metadata={"m": 2})
    assert set(indexed(store, actor, project.id)) == {"tag.p", "metadata.m"}
    assert set(indexed(store, actor, document.id)) == {"tag.d", "metadata.m"}


@pytest.mark.parametrize(
    "edit",
    [
        {"config": {"a": 2}},
        {"config": {"a": "text", "new": True}},
        {"config": {}},
        {"config": {"a": {"b": 1}}},
        {"config": {"a": math.nan}},
        {"tags": ("two",)},
        {"summary": {"a": 1}, "metadata": {}},
    ],
)
def test_an_edit_leaves_the_index_as_if_it_had_always_been_so(store: Store, actor: Actor, edit: dict[str, Any]) -> None:
    before = make_run(store.database, actor, config={"a": 1}, metadata={"m": 1}, tags=("one", "two"))
    after = msgspec.structs.replace(before, **edit)

    def change(tx: Tx, _actor: Actor, pair: tuple[Run, Run]) -> None:
        index.put(tx, pair[0], {"scores.exact": 0.5})
        index.change(tx, *pair)

    store.database.write(change, actor, (before, after))
    expected = index.fields_of(after) | {"scores.exact": ("n", 0.5, None)}
    found = indexed(store, actor, before.id)
    assert found == expected
    store.database.write(lambda tx, _actor, pair: index.change(tx, *pair), actor, (after, before))
    assert indexed(store, actor, before.id) == index.fields_of(before) | {"scores.exact": ("n", 0.5, None)}

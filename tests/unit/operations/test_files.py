"""Files: which paths are taken, what attaching does to references and bytes, and how they are listed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import select, update

from labkeep.core.access import Actor
from labkeep.core.commands import Apply, AttachFile, GetFile, ListFiles, Selection
from labkeep.core.entities import File, Item
from labkeep.core.errors import Forbidden, Gone, Illegal, Invalid, NotFound, Unavailable
from labkeep.core.lifecycle import State
from labkeep.operations import Store, deletions, files
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


def upload(store: Store, actor: Actor, content: bytes) -> files.Stored:
    with files.begin(store, actor) as upload:
        upload.write(content)
        stored = upload.finish()
    files.keep(store, actor, stored)
    return stored


def attach(store: Store, actor: Actor, owner_id: str, path: str, content: bytes, **fields: Any) -> File:
    stored = upload(store, actor, content)
    command = AttachFile(**({"id": owner_id, "path": path, "digest": stored.digest, "size": stored.size} | fields))
    return store.database.write(files.attach, actor, command)


def refs(store: Store, actor: Actor) -> dict[int, int]:
    """Size of each known blob -> references to it."""

    def count(tx: Tx, _: Actor, __: None) -> dict[int, int]:
        return dict(map(tuple, tx.execute(select(t.blobs.c.size, t.blobs.c.refs))))

    return store.database.read(count, actor, None)


def held(store: Store, actor: Actor, item: Item) -> int:
    def size(tx: Tx, _: Actor, item_id: str) -> int:
        return int(tx.execute(select(t.items.c.bytes).where(t.items.c.id == item_id)).scalar_one())

    return store.database.read(size, actor, item.id)


def set_swept(tx: Tx, _: Actor, digest: str) -> None:
    tx.execute(update(t.blobs).where(t.blobs.c.digest == digest).values(swept_at=tx.now))


# --- paths ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "//host/share",
        "..",
        "../up",
        "a/../../up",
        "a/..",
        "a\\..\\b",
        "\\\\host\\share",
        "C:\\windows",
        "C:/windows",
        "c:relative",
        "a\x00b",
        "a\nb",
        "a\x7fb",
        "a\x85b",
        "\ud800",
        "",
        ".",
        "./",
        "a/",
        "x" * 256,
        "é" * 128 + "/b",
        "/".join(["directory"] * 110),
    ],
)
def test_a_hostile_path_is_refused_and_named(path: str) -> None:
    with pytest.raises(Invalid, match="cannot be used") as caught:
        files.clean_path(path)
    msgspec.json.encode(caught.value.message)  # whatever was sent, the answer can be


@pytest.mark.parametrize(
    ("path", "cleaned"),
    [("a", "a"), ("a//b", "a/b"), ("./a/./b", "a/b"), ("a/.hidden", "a/.hidden"), ("ünï/c ode..txt", "ünï/c ode..txt")],
)
def test_a_path_has_one_normal_form(path: str, cleaned: str) -> None:
    assert files.clean_path(path) == cleaned
    assert files.clean_path(cleaned) == cleaned


# --- attaching --------------------------------------------------------------------------------------------------------


def test_an_attached_file_is_found_by_its_path(store: Store, actor: Actor) -> None:
    run = make_run(store.database, actor)
    file = attach(store, actor, run.id, "logs//out.txt", b"hello", media_type="text/plain; charset=utf-8")
    assert (file.path, file.size, file.media_type) == ("logs/out.txt", 5, "text/plain; charset=utf-8")
    assert store.database.read(files.find, actor, GetFile(id=run.id, path="./logs/out.txt")) == file
    assert held(store, actor, run) == 5


def test_documents_have_files_and_projects_have_none(store: Store, actor: Actor) -> None:
    project = make_project(store.database, actor)
    assert attach(store, actor, make_document(store.database, actor, project).id, "a", b"x").size == 1
    with pytest.raises(Invalid, match="has no files"):
        attach(store, actor, project.id, "a", b"x")
    with pytest.raises(Invalid, match="has no files"):
        store.database.read(files.list_, actor, ListFiles(id=project.id))


def test_replacing_a_file_moves_the_reference_and_the_bytes(store: Store, actor: Actor) -> None:
    run = make_run(store.database, actor)
    attach(store, actor, run.id, "a", b"123")
    attach(store, actor, run.id, "a", b"12345")
    assert refs(store, actor) == {3: 0, 5: 1}
    assert held(store, actor, run) == 5
    attach(store, actor, run.id, "a", b"12345", media_type="text/x")
    assert refs(store, actor) == {3: 0, 5: 1}
    assert store.database.read(files.find, actor, GetFile(id=run.id, path="a")).media_type == "text/x"


def test_the_same_bytes_are_stored_once_and_counted_by_references(store: Store, actor: Actor) -> None:
    run = make_run(store.database, actor)
    for name in "abc":
        attach(store, actor, run.id, name, b"same")
    assert refs(store, actor) == {4: 3}
    assert len(list(store.blobs.list())) == 1
    assert held(store, actor, run) == 12


def test_a_blob_must_be_uploaded_before_it_is_attached(store: Store, actor: Actor) -> None:
    run = make_run(store.database, actor)
    unknown = "sha256:" + "0" * 64
    with pytest.raises(NotFound, match="upload it first"):
        store.database.write(files.attach, actor, AttachFile(id=run.id, path="a", digest=unknown, size=1))
    assert store.database.read(files.list_, actor, ListFiles(id=run.id)).items == []


def test_a_blob_of_another_organization_does_not_exist(store: Store, actor: Actor) -> None:
    stranger = make_actor(store.database, organization="other")
    stored = upload(store, stranger, b"theirs")
    run = make_run(store.database, actor)
    with pytest.raises(NotFound):
        store.database.write(
            files.attach, actor, AttachFile(id=run.id, path="a", digest=stored.digest, size=stored.size)
        )
    with pytest.raises(NotFound):
        store.database.read(files.find_blob, actor, files.FindBlob(digest=stored.digest))
    assert store.database.read(files.find_blob, stranger, files.FindBlob(digest=stored.digest)) == 6


def test_a_wrong_size_is_refused_and_nothing_is_kept(store: Store, actor: Actor) -> None:
    run = make_run(store.database, actor)
    with pytest.raises(Invalid, match="has 3 bytes, not 4"):
        attach(store, actor, run.id, "a", b"abc", size=4)
    assert refs(store, actor) == {3: 0}


def test_a_blob_that_is_being_swept_can_be_neither_uploaded_nor_attached(store: Store, actor: Actor) -> None:
    run = make_run(store.database, actor)
    stored = upload(store, actor, b"old")
    store.database.write(set_swept, actor, stored.digest)
    with pytest.raises(Unavailable, match="upload it again"):
        store.database.write(files.attach, actor, AttachFile(id=run.id, path="a", digest=stored.digest, size=3))
    with pytest.raises(Unavailable, match="upload it again"):
        upload(store, actor, b"old")
    with pytest.raises(NotFound):
        store.database.read(files.find_blob, actor, files.FindBlob(digest=stored.digest))


def test_bytes_that_a_sweep_took_along_are_noticed_before_anything_refers_to_them(store: Store, actor: Actor) -> None:
    with files.begin(store, actor) as upload:
        upload.write(b"lost")
        stored = upload.finish()
    store.blobs.delete(actor.organization_id, [stored.digest])
    with pytest.raises(Unavailable, match="removed while it was uploaded"):
        files.keep(store, actor, stored)


def test_uploading_again_keeps_the_references_and_renews_the_date(tmp_path: Path) -> None:
    with make_store(tmp_path) as store:
        actor = make_actor(store.database)
        run = make_run(store.database, actor)
        attach(store, actor, run.id, "a", b"abc")
        store.database.clock.advance(hours=5)  # type: ignore[attr-defined]  # a FixedClock
        upload(store, actor, b"abc")
        found = store.database.read(lambda tx, _, __: tx.one(select(t.blobs)), actor, None)
        assert found is not None
        assert (found["refs"], found["created_at"]) == (1, store.database.clock())


def test_nothing_is_attached_to_what_is_trashed_or_archived(store: Store, actor: Actor) -> None:
    trashed, archived = (
        make_run(store.database, actor, status="finished"),
        make_run(store.database, actor, state=State.archived),
    )
    attach(store, actor, trashed.id, "a", b"1")
    store.database.write(deletions.apply, actor, Apply(selection=Selection(ids=[trashed.id])))
    with pytest.raises(Gone):
        attach(store, actor, trashed.id, "b", b"2")
    with pytest.raises(Illegal, match="unarchive"):
        attach(store, actor, archived.id, "b", b"2")
    with pytest.raises(Gone):
        store.database.read(files.find, actor, GetFile(id=trashed.id, path="a"))
    assert store.database.read(files.find, actor, GetFile(id=trashed.id, path="a", include="trashed")).size == 1


def test_a_viewer_reads_files_and_uploads_none(store: Store, actor: Actor) -> None:
    viewer = make_actor(store.database, "viewer")
    run = make_run(store.database, actor)
    attach(store, actor, run.id, "a", b"1")
    assert store.database.read(files.find, viewer, GetFile(id=run.id, path="a")).size == 1
    with pytest.raises(Forbidden):
        files.begin(store, viewer)
    with pytest.raises(Forbidden):
        store.database.read(files.check_attach, viewer, GetFile(id=run.id, path="b"))


def test_another_tenants_run_is_not_found(store: Store, actor: Actor) -> None:
    stranger = make_actor(store.database, organization="other")
    run = make_run(store.database, actor)
    for call in (files.list_, files.find):
        with pytest.raises(NotFound):
            store.database.read(call, stranger, GetFile(id=run.id, path="a"))


@pytest.mark.parametrize("media_type", ["", "nonsense", "text/html\r\nSet-Cookie: a=b", "téxt/html", "x/" + "y" * 300])
def test_a_media_type_that_cannot_stand_in_a_header_becomes_plain_bytes(media_type: str) -> None:
    assert files.clean_media_type(media_type) == "application/octet-stream"


# --- listing ----------------------------------------------------------------------------------------------------------


def test_files_are_listed_in_pages_by_path(store: Store, actor: Actor) -> None:
    run = make_run(store.database, actor)
    names = ["b/2", "a", "b/1", "Z", "ä", "b", "😀", "b/10"]
    for name in names:
        attach(store, actor, run.id, name, name.encode())
    found: list[str] = []
    command = ListFiles(id=run.id, limit=3)
    while True:
        page = store.database.read(files.list_, actor, command)
        found += [file.path for file in page.items]
        if page.next is None:
            break
        command = ListFiles(id=run.id, limit=3, cursor=page.next)
    assert found == sorted(names)


@pytest.mark.parametrize(("prefix", "count"), [("b", 3), ("b/", 2), ("b/1", 1), ("", 5), ("%", 0), ("c", 0), ("😀", 1)])
def test_a_prefix_keeps_the_paths_that_begin_with_it(store: Store, actor: Actor, prefix: str, count: int) -> None:
    run = make_run(store.database, actor)
    for name in ("a", "b", "b/1", "b/2", "😀x"):
        attach(store, actor, run.id, name, b"")
    assert len(store.database.read(files.list_, actor, ListFiles(id=run.id, prefix=prefix)).items) == count


def test_a_cursor_of_another_list_is_refused(store: Store, actor: Actor) -> None:
    run = make_run(store.database, actor)
    with pytest.raises(Invalid, match="cursor"):
        store.database.read(files.list_, actor, ListFiles(id=run.id, cursor="nonsense"))

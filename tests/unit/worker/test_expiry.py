"""Artifact versions that are wanted for a time only, and drafts that nobody commits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from labkeep.core.access import Actor
from labkeep.core.commands import (
    Get,
    ListArtifactVersions,
    ListTrash,
    ManifestEntry,
    ResolveArtifact,
    SetAliases,
    SetLock,
)
from labkeep.core.commands_holds import LiftHold, SetHold
from labkeep.core.entities import ArtifactVersion
from labkeep.core.errors import Gone, NotFound
from labkeep.operations import Store, artifact_edits, artifacts, deletions, drafts, files, holds
from labkeep.operations.artifact_edits import EditVersion
from labkeep.operations.drafts import CommitDraft, PutDraftFile, StartDraft
from labkeep.operations.expiry import FIRST, Until, expired
from labkeep.storage import tables as t
from labkeep.storage.transaction import Tx
from labkeep.testing.factories import FixedClock, make_actor, make_store
from labkeep.worker import expiry, tasks

HOUR_S = 3600


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def store(tmp_path: Path, clock: FixedClock) -> Iterator[Store]:
    with make_store(tmp_path, clock) as store:
        yield store


@pytest.fixture
def actor(store: Store) -> Actor:
    return make_actor(store.database)


def blob(store: Store, actor: Actor, text: str) -> str:
    with files.begin(store, actor) as upload:
        upload.write(text.encode())
        stored = upload.finish()
    files.keep(store, actor, stored)
    return stored.digest


def draft(store: Store, actor: Actor, text: str, ttl_s: int | None = None) -> ArtifactVersion:
    asked = StartDraft(project="p", name="net", type="model", digest=text, ttl_s=ttl_s)
    found = store.database.write(drafts.start, actor, asked).version
    put = PutDraftFile(id=found.id, path="a.txt", digest=blob(store, actor, text))
    store.database.write(drafts.put_file, actor, put)
    return found


def version(store: Store, actor: Actor, text: str, ttl_s: int | None = None) -> ArtifactVersion:
    found = draft(store, actor, text, ttl_s)
    entries = [ManifestEntry(path="a.txt", digest=blob(store, actor, text))]
    return store.database.write(drafts.commit, actor, CommitDraft(id=found.id, entries=entries)).version


def live(store: Store, actor: Actor) -> list[str]:
    collection = store.database.read(artifacts.resolve, actor, _named("net")).parent_id
    found = store.database.read(artifacts.list_versions, actor, ListArtifactVersions(id=collection))
    return [each.name for each in found.items]


def _named(name: str) -> ResolveArtifact:
    return ResolveArtifact(project="p", name=name)


def rows(store: Store, actor: Actor, table: object) -> int:
    def read(tx: Tx, _actor: Actor, _command: None) -> int:
        return len(tx.all(select(table)))  # type: ignore[call-overload]  # any table

    return store.database.read(read, actor, None)


def test_a_version_whose_time_is_over_is_in_the_trash_and_no_other(
    store: Store, actor: Actor, clock: FixedClock
) -> None:
    first, second = version(store, actor, "one", 2 * HOUR_S), version(store, actor, "two", 9 * HOUR_S)
    version(store, actor, "three")
    expiry.trash_expired(store)
    assert live(store, actor) == ["v2", "v1", "v0"]
    clock.advance(hours=3)
    expiry.trash_expired(store)
    expiry.trash_expired(store)
    assert live(store, actor) == ["v2", "v1"]
    [trashed] = store.database.read(deletions.trash_list, actor, ListTrash()).items
    assert (trashed.id, trashed.reason) == (first.id, "its time to live is over")
    with pytest.raises(Gone):
        store.database.read(artifacts.get_version, actor, Get(id=first.id))
    clock.advance(hours=7)
    expiry.trash_expired(store)
    assert store.database.read(artifacts.resolve, actor, _named("net")).id != second.id
    assert live(store, actor) == ["v2"]


def test_the_time_can_be_changed_and_taken_back(store: Store, actor: Actor, clock: FixedClock) -> None:
    forever, shorter = version(store, actor, "one", HOUR_S), version(store, actor, "two", 90 * HOUR_S)
    version(store, actor, "three")
    store.database.write(artifact_edits.edit_version, actor, EditVersion(id=forever.id, ttl_s=None))
    store.database.write(artifact_edits.edit_version, actor, EditVersion(id=shorter.id, ttl_s=HOUR_S))
    clock.advance(hours=2)
    expiry.trash_expired(store)
    assert live(store, actor) == ["v2", "v0"]


def test_an_alias_a_lock_and_a_hold_keep_it_until_they_are_gone(store: Store, actor: Actor, clock: FixedClock) -> None:
    named, locked, held = (version(store, actor, text, HOUR_S) for text in ("one", "two", "three"))
    version(store, actor, "four")
    store.database.write(artifacts.set_aliases, actor, SetAliases(id=named.id, add=("prod",)))
    store.database.write(deletions.set_lock, actor, SetLock(id=locked.id, locked=True))
    hold = store.database.write(holds.set_, actor, SetHold(matter="m", reason="r", ids=[held.id]))
    clock.advance(hours=2)
    expiry.trash_expired(store)
    assert live(store, actor) == ["v3", "v2", "v1", "v0"]
    store.database.write(artifacts.set_aliases, actor, SetAliases(id=named.id, remove=("prod",)))
    store.database.write(deletions.set_lock, actor, SetLock(id=locked.id, locked=False))
    store.database.write(holds.lift, actor, LiftHold(id=hold.id, reason="over"))
    expiry.trash_expired(store)
    assert live(store, actor) == ["v3"]


def test_what_is_due_comes_in_pages(store: Store, actor: Actor, clock: FixedClock) -> None:
    made = [version(store, actor, f"{number}", HOUR_S).id for number in range(5)]
    clock.advance(hours=2)
    found: list[str] = []
    while page := store.database.read(expired, actor, Until(clock.now, found[-1] if found else FIRST, limit=2)):
        assert len(page) <= 2
        found += [due.id for due in page]
    assert found == made


def test_a_draft_that_nobody_commits_goes_with_its_blobs(store: Store, actor: Actor, clock: FixedClock) -> None:
    given_up = draft(store, actor, "given up")
    version(store, actor, "finished")
    clock.advance(days=6)
    late = draft(store, actor, "late")
    expiry.drop_drafts(store)
    assert rows(store, actor, t.artifact_versions) == 3
    clock.advance(days=2)
    expiry.drop_drafts(store)
    assert rows(store, actor, t.artifact_versions) == 2
    with pytest.raises(NotFound):
        store.database.read(drafts.get, actor, drafts.GetUpload(id=given_up.id))
    assert store.database.read(drafts.get, actor, drafts.GetUpload(id=late.id)).version.id == late.id
    assert live(store, actor) == ["v0"]
    tasks.tidy(store)
    assert len(list(store.blobs.list())) == 2


def test_a_draft_that_still_gets_files_stays(store: Store, actor: Actor, clock: FixedClock) -> None:
    slow = draft(store, actor, "slow")
    clock.advance(days=6)
    put = PutDraftFile(id=slow.id, path="b.txt", digest=blob(store, actor, "more"))
    store.database.write(drafts.put_file, actor, put)
    clock.advance(days=2)
    expiry.drop_drafts(store)
    entries = [ManifestEntry(path="b.txt", digest=blob(store, actor, "more"))]
    done = store.database.write(drafts.commit, actor, CommitDraft(id=slow.id, entries=entries)).version
    clock.advance(days=60)
    expiry.drop_drafts(store)
    assert store.database.read(artifacts.resolve, actor, _named("net")).id == done.id

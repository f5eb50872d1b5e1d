"""Projects that encrypt, from the first byte to the last key: on both databases."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from labkeep.core.commands import (
    Apply,
    AttachFile,
    CreateProject,
    CreateRun,
    PurgeDeletion,
    ReadHistory,
    RowIn,
    Selection,
    UpdateProject,
    WriteRows,
)
from labkeep.core.commands_encryption import GetEncryption
from labkeep.core.commands_holds import SetHold
from labkeep.core.commands_rules import SetRules
from labkeep.core.errors import Conflict, Corrupt, Gone, Invalid, NotFound, Unavailable
from labkeep.operations import (
    accounts,
    attachments,
    deletions,
    encryption,
    encryption_status,
    files,
    history,
    holds,
    projects,
    rows,
    rules,
    runs,
    traces,
)
from labkeep.operations.attachments import Receive
from labkeep.operations.traces import Home, Target, TraceSet, WriteTraces
from labkeep.server import rotate_master_key
from labkeep.settings import Settings
from labkeep.storage import data_keys, master_key
from labkeep.storage import tables as t
from labkeep.storage.blobs import blob_key
from labkeep.storage.transaction import Tx
from tests.contract.encrypted_lab import MASTER, OTHER_MASTER, EncryptedLab


@pytest.fixture(params=["sqlite", "postgresql"])
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EncryptedLab]:
    url = "" if request.param == "sqlite" else str(request.getfixturevalue("postgres_url"))
    made = EncryptedLab(tmp_path / "data", url)
    yield made
    made.stop()


def table(lab: EncryptedLab, which: Any) -> list[Any]:
    def read(tx: Tx, _actor: Any, _command: None) -> list[Any]:
        return list(tx.all(select(which)))

    return list(lab.read(read, None))


def live_keys(lab: EncryptedLab) -> set[str]:
    return {row["owner_id"] for row in table(lab, t.data_keys) if row["wrapped"] is not None}


def assert_reads(lab: EncryptedLab, run_id: str, word: str) -> None:
    assert lab.history(run_id) == [*(f"{word}-sealed-{step}" for step in range(4)), f"{word}-open"]
    assert lab.rows(run_id)[0]["input"] == f"{word}-row"
    assert lab.content(run_id) == f"{word}-file".encode()


def test_everything_reads_back_and_nothing_of_it_lies_on_disk(lab: EncryptedLab) -> None:
    lab.project()
    run, document, version = lab.run("canary-1"), lab.document("title"), lab.artifact("canary-1")
    assert_reads(lab, run.id, "canary-1")
    assert lab.body(document, 1) == {"prompt": "title-body-1"}
    assert lab.body(document) == {"prompt": "title-body-2"}
    assert lab.rows(document) == [{"input": "title-item"}]
    assert lab.content(version, "a.bin") == b"canary-1-artifact"
    assert lab.store.blobs.verify(lab.actor.organization_id, table(lab, t.segments)[0]["digest"])
    for word in ("canary-1", "title-body", "title-item"):
        # The summary of a series keeps its first and last values, and is not encrypted.
        allowed = ("labkeep.db", "labkeep.db-wal", "dump") if word == "canary-1" else ()
        assert [name for name in lab.found_on_disk(word) if name not in allowed] == []


def test_a_project_that_does_not_encrypt_is_as_ever(lab: EncryptedLab) -> None:
    lab.project("open", encrypt=False)
    run = lab.run("plain", "open")
    assert_reads(lab, run.id, "plain")
    assert live_keys(lab) == set()
    assert all(row["digest"].startswith("sha256:") for row in table(lab, t.blobs))
    assert lab.found_on_disk("plain-file")


def test_rows_that_are_written_over_stay_encrypted(lab: EncryptedLab) -> None:
    lab.project()
    run = lab.run("first")
    lab.log(run.id, [{"_step": 1, "note": "second-1"}, {"_step": 2, "note": "second-2"}], offset=1)
    lab.worker.run_all()
    notes = ["first-sealed-0", "second-1", "second-2", "first-sealed-3", "first-open"]
    assert lab.history(run.id) == notes
    assert len(table(lab, t.segments)) == 1


def test_a_purge_destroys_the_keys_and_an_old_copy_is_noise(lab: EncryptedLab, tmp_path: Path) -> None:
    lab.project()
    going, staying = lab.run("going"), lab.run("staying")
    lab.upload(going.id, "shared", b"in both runs")
    lab.upload(staying.id, "shared", b"in both runs")
    before = live_keys(lab)
    old = lab.copy(tmp_path / "old")
    deletion = lab.purge(going.id)
    assert deletion.state == "purged"
    gone = before - live_keys(lab)
    assert going.id in gone
    assert len(gone) == 3  # the run's own, its segment's and its file's
    assert_reads(lab, staying.id, "staying")
    assert lab.content(staying.id, "shared") == b"in both runs"
    assert lab.check() == []
    (receipt,) = table(lab, t.receipts)
    assert receipt["body"]["encryption"] == {"keys_destroyed": 3}
    assert "overwritten in the database, no later than" in receipt["body"]["method"]["keys"]
    # The old bytes with the keys of today: each blob that went opens no more, and each that stayed does.
    names = {path.name for path in (old / "blobs" / lab.actor.organization_id).rglob("*") if path.is_file()}
    live = {owner.replace("-", "") for owner in live_keys(lab)}
    assert {owner.replace("-", "") for owner in gone} & names == names - live
    assert len(names - live) == 2


def test_what_two_projects_have_alike_is_unrelated_on_disk(lab: EncryptedLab) -> None:
    lab.project("one"), lab.project("two")
    first = lab.write(runs.create, CreateRun(project="one"))
    second = lab.write(runs.create, CreateRun(project="two"))
    same = [lab.upload(run.id, "same", bytes(1000)) for run in (first, second)]
    assert same[0] == same[1]
    kept = table(lab, t.blobs)
    assert len({row["digest"] for row in kept}) == len({bytes(row["fingerprint"]) for row in kept}) == 2


def test_what_one_project_has_twice_is_stored_once(lab: EncryptedLab) -> None:
    lab.project()
    for _ in range(2):
        run = lab.write(runs.create, CreateRun(project="secret"))
        lab.upload(run.id, "same", bytes(1000))
    (blob,) = table(lab, t.blobs)
    assert blob["refs"] == 2
    assert [one.digest for one in lab.store.blobs.list(lab.actor.organization_id)] == [blob["digest"]]


def test_a_content_that_was_purged_can_come_again(lab: EncryptedLab) -> None:
    lab.project()
    run = lab.run("again")
    assert lab.purge(run.id).state == "purged"
    assert_reads(lab, lab.run("again").id, "again")


def test_bytes_in_the_clear_cannot_become_a_file_of_a_project_that_encrypts(lab: EncryptedLab) -> None:
    lab.project("open", encrypt=False)
    stored = files.put(lab.store, lab.actor, files.UploadTo(project="open"), b"seen by all")
    secret = lab.project()
    run = lab.write(runs.create, CreateRun(project="secret"))
    attach = AttachFile(id=run.id, path="x", digest=stored.digest, size=stored.size)
    with pytest.raises(NotFound, match=f"PUT /blobs\\?project={secret.id}"):
        lab.write(files.attach, attach)
    with pytest.raises(NotFound):
        lab.read(files.find_blob, files.FindBlob(digest=stored.digest, project="secret"))
    assert lab.read(files.find_blob, files.FindBlob(digest=stored.digest)) == 11


def test_an_upload_for_nobody_is_refused_where_contents_are_encrypted(lab: EncryptedLab) -> None:
    assert files.put(lab.store, lab.actor, files.UploadTo(), b"nothing is encrypted yet").size == 24
    lab.project()
    for nowhere in (files.UploadTo(), files.UploadTo(project="still to be made")):
        with pytest.raises(Invalid, match="say for which project"):
            files.put(lab.store, lab.actor, nowhere, b"for whom?")


def test_encryption_without_a_master_key_is_refused_and_says_how_to_make_one(lab: EncryptedLab) -> None:
    lab.stop()
    lab.start()
    with pytest.raises(Invalid, match="labkeep keygen master"):
        lab.project()
    lab.project("open", encrypt=False)
    with pytest.raises(Invalid, match="labkeep keygen master"):
        lab.write(projects.update, UpdateProject(id="open", settings={"encrypt": True}))


@pytest.mark.parametrize("master", ["", OTHER_MASTER])
def test_without_its_master_key_the_rest_of_the_server_works(lab: EncryptedLab, master: str) -> None:
    lab.project()
    lab.project("open", encrypt=False)
    run, document, other = lab.run("kept"), lab.document("kept-too"), lab.run("plain", "open")
    lab.stop()
    lab.start(master_key=master)
    assert_reads(lab, other.id, "plain")
    for read in (lambda: lab.history(run.id), lambda: lab.rows(run.id), lambda: lab.content(run.id)):
        with pytest.raises(Unavailable, match="needs master key"):
            read()
    with pytest.raises(Unavailable, match="needs master key"):
        lab.body(document)
    with pytest.raises(Unavailable):
        lab.log(run.id, [{"_step": 10, "note": "must not be written in the clear"}])
    lab.stop()
    lab.start(master_key=MASTER)
    assert_reads(lab, run.id, "kept")


def test_a_key_that_a_backup_brings_back_is_destroyed_again_at_the_start(lab: EncryptedLab) -> None:
    lab.project()
    run = lab.run("returned")
    before = table(lab, t.data_keys)
    lab.purge(run.id)
    after = live_keys(lab)

    def bring_back(tx: Tx, _actor: Any, _command: None) -> None:
        tx.upsert(t.data_keys, [dict(row) for row in before])

    lab.write(bring_back, None)
    assert run.id in live_keys(lab)
    lab.stop()
    lab.start(master_key=MASTER)
    assert live_keys(lab) == after


def test_encryption_can_be_turned_on_later_for_what_is_new(lab: EncryptedLab) -> None:
    lab.project("late", encrypt=False)
    old = lab.run("older", "late")
    lab.write(projects.update, UpdateProject(id="late", settings={"encrypt": True}))
    new = lab.run("newer", "late")
    assert_reads(lab, old.id, "older")
    assert_reads(lab, new.id, "newer")
    assert lab.found_on_disk("older-file")
    assert not lab.found_on_disk("newer-file")


def test_answers_that_may_be_asked_for_again_are_encrypted_too(lab: EncryptedLab) -> None:
    lab.project()
    run = lab.run("quoted")

    def quote(tx: Tx, _actor: Any, command: str) -> dict[str, str]:
        return {"quoted": command}

    once = accounts.once(quote, "key-1", "fingerprint")
    first = lab.write(once, "canary-answer")
    assert lab.write(once, "canary-answer") == first
    assert not lab.found_on_disk("canary-answer")
    lab.purge(run.id)
    with pytest.raises(Conflict, match="dropped"):
        lab.write(once, "canary-answer")


def test_a_value_that_was_moved_to_another_row_is_corrupt(lab: EncryptedLab) -> None:
    lab.project()
    one, other = lab.document("one"), lab.document("other")

    def move(tx: Tx, _actor: Any, _command: None) -> None:
        source = tx.one(select(t.rows.c.data).where(t.rows.c.owner_id == one))
        assert source is not None
        tx.execute(t.rows.update().where(t.rows.c.owner_id == other).values(data=source["data"]))

    lab.write(move, None)
    with pytest.raises(Corrupt, match="does not open with data key"):
        lab.rows(other)


def test_a_destroyed_key_is_told_by_who_needs_it(lab: EncryptedLab) -> None:
    lab.project()
    document = lab.document("lost")
    key = next(row["id"] for row in table(lab, t.data_keys) if row["owner_id"] == document)
    assert encryption.destroy(lab.store, lab.actor, [key]) == 1
    assert encryption.destroy(lab.store, lab.actor, [key]) == 0
    with pytest.raises(Gone, match=f"data key {key} was destroyed"):
        lab.rows(document)


def test_a_key_that_a_failed_write_made_is_never_used(lab: EncryptedLab) -> None:
    lab.project()
    run = lab.write(runs.create, CreateRun(project="secret"))

    def fail(tx: Tx, actor: Any, command: Any) -> None:
        rows.write(tx, actor, WriteRows(id=run.id, rows=[RowIn(id="x", data={"lost": 1})]))
        raise Invalid("on purpose")

    with pytest.raises(Invalid):
        lab.write(fail, None)
    assert run.id not in live_keys(lab)
    lab.log(run.id, [{"_step": 0, "note": "written after"}])
    lab.stop()
    lab.start(master_key=MASTER)
    assert lab.history(run.id) == ["written after"]


def test_a_workspace_may_ask_for_it_in_all_of_its_projects(lab: EncryptedLab) -> None:
    lab.write(rules.set_workspace, SetRules(rules={"encrypt": True}))
    with pytest.raises(Invalid, match="say for which project"):
        files.put(lab.store, lab.actor, files.UploadTo(), b"for whom?")
    lab.write(projects.create, CreateProject(name="inside"))
    run = lab.run("inherited", "inside")
    assert_reads(lab, run.id, "inherited")
    assert run.id in live_keys(lab)


# --- checking ---------------------------------------------------------------------------------------------------------


def test_a_check_opens_what_is_encrypted(lab: EncryptedLab) -> None:
    lab.project()
    lab.run("checked"), lab.document("checked-too"), lab.artifact("checked-three")
    assert lab.check() == []


def test_a_check_says_which_master_key_is_missing(lab: EncryptedLab) -> None:
    lab.project()
    lab.document("needs its key")
    found = dict(lab.check(master_key=OTHER_MASTER))
    (subject,) = found
    assert subject.startswith("master key ")
    assert "2 data keys need this master key" in found[subject]  # the project's and the document's


def test_a_check_finds_a_key_that_came_back_and_values_that_do_not_open(lab: EncryptedLab) -> None:
    lab.project()
    run, document = lab.run("back"), lab.document("moved")
    before = table(lab, t.data_keys)
    lab.purge(run.id)

    def damage(tx: Tx, _actor: Any, _command: None) -> None:
        tx.upsert(t.data_keys, [dict(row) for row in before])
        tx.execute(t.rows.update().where(t.rows.c.owner_id == document).values(id="renamed"))

    lab.write(damage, None)
    messages = [message for _, message in lab.check()]
    assert sum("was destroyed and is here again" in message for message in messages) == 3
    assert any("something that was purged" in message for message in messages)
    assert any("does not open with data key" in message for message in messages)


def test_a_check_finds_an_encrypted_blob_that_was_cut_off(lab: EncryptedLab) -> None:
    lab.project()
    run = lab.write(runs.create, CreateRun(project="secret"))
    lab.upload(run.id, "big", bytes(200_000))
    (blob,) = table(lab, t.blobs)
    path = lab.folder / "blobs" / blob_key(lab.actor.organization_id, blob["digest"])
    path.write_bytes(path.read_bytes()[:-1])
    assert [subject for subject, _ in lab.check()] == [blob["digest"]]


# --- another master key -----------------------------------------------------------------------------------------------


def rotate(lab: EncryptedLab, folder: Path) -> encryption.Rewrapped:
    (folder / "new.key").write_text(OTHER_MASTER)
    given = Settings(data=str(lab.folder), database_url=lab.database_url, master_key=MASTER)
    return rotate_master_key(given, folder / "new.key")


def test_the_master_key_can_be_changed(lab: EncryptedLab, tmp_path: Path) -> None:
    lab.project()
    run, document = lab.run("turned"), lab.document("turned-too")
    wrapped = [bytes(row["wrapped"]).hex() for row in table(lab, t.data_keys)]
    lab.stop()
    done = rotate(lab, tmp_path)
    assert (done.data_keys, done.others) == (len(wrapped), {})
    assert done.secrets == 1  # the signing key of receipts
    again = rotate(lab, tmp_path)
    assert (again.data_keys, again.secrets) == (0, 0)
    if not lab.database_url:
        old = (lab.folder / "labkeep.db").read_bytes()
        assert [one for one in wrapped if bytes.fromhex(one) in old] == []
    lab.start(master_key=OTHER_MASTER)
    assert_reads(lab, run.id, "turned")
    assert lab.rows(document) == [{"input": "turned-too-item"}]
    assert lab.purge(run.id).state == "purged"
    assert lab.check(master_key=OTHER_MASTER) == []


def test_old_and_new_keys_both_open_while_the_master_key_changes(lab: EncryptedLab, tmp_path: Path) -> None:
    lab.project()
    run = lab.run("between")
    (tmp_path / "old.key").write_text(MASTER)
    lab.stop()
    lab.start(master_key=OTHER_MASTER, old_master_key_file=str(tmp_path / "old.key"))
    assert_reads(lab, run.id, "between")
    document = lab.document("made between")
    half = encryption.Rewrap(master_key.parse(MASTER), master_key.parse(OTHER_MASTER))
    lab.write(lambda tx, _actor, _command: data_keys.rewrap(tx, *half, limit=2), None)
    assert {row["master"] for row in table(lab, t.data_keys)} == {half.old.id, half.new.id}
    assert_reads(lab, run.id, "between")
    assert encryption.rewrap(lab.store, *half).others == {}
    lab.stop()
    lab.start(master_key=OTHER_MASTER)
    assert_reads(lab, run.id, "between")
    assert lab.body(document) == {"prompt": "made between-body-2"}


def test_a_change_of_the_master_key_needs_both_keys(lab: EncryptedLab, tmp_path: Path) -> None:
    (tmp_path / "same.key").write_text(MASTER)
    given = Settings(data=str(lab.folder), master_key=MASTER)
    with pytest.raises(Invalid, match="is the old one"):
        rotate_master_key(given, tmp_path / "same.key")
    with pytest.raises(Invalid, match="needs both"):
        rotate_master_key(given)


# --- how much is encrypted --------------------------------------------------------------------------------------------


def test_how_much_of_a_project_is_encrypted_can_be_asked(lab: EncryptedLab) -> None:
    lab.project("mixed", encrypt=False)
    lab.run("older", "mixed"), lab.document("older", "mixed")
    asked = GetEncryption(id="mixed")
    before = lab.read(encryption_status.get, asked)
    assert (before.encrypt, before.encrypted_bytes, before.keys) == (False, 0, 0)
    assert all(share.plain_bytes for share in before.contents.values())
    lab.write(projects.update, UpdateProject(id="mixed", settings={"encrypt": True}))
    lab.run("newer", "mixed"), lab.document("newer", "mixed")
    after = lab.read(encryption_status.get, asked)
    assert (after.encrypt, after.plain_bytes, after.keys) == (True, before.plain_bytes, 3)
    assert all(share.encrypted_bytes for share in after.contents.values())


# --- old copies -------------------------------------------------------------------------------------------------------


def test_an_old_copy_of_everything_with_the_keys_of_today_shows_only_what_is_live(tmp_path: Path) -> None:
    lab = EncryptedLab(tmp_path / "data")
    lab.project()
    going, staying, document = lab.run("going"), lab.run("staying"), lab.document("going-too")
    old = lab.copy(tmp_path / "old")
    lab.purge(going.id, document)
    actor = lab.actor
    lab.stop()
    with closing(sqlite3.connect(old / "labkeep.db")) as connection:
        connection.execute("ATTACH ? AS today", (str(lab.folder / "labkeep.db"),))
        connection.execute("DELETE FROM data_keys")
        connection.execute("INSERT INTO data_keys SELECT * FROM today.data_keys")
        connection.commit()
    lab.folder = old
    lab.start(master_key=MASTER)
    try:
        assert lab.actor == actor
        assert_reads(lab, staying.id, "staying")
        for read in (lab.history, lab.rows, lab.content):
            with pytest.raises(Gone, match="was destroyed"):
                read(going.id)
        for read in (lab.rows, lab.body):
            with pytest.raises(Gone, match="was destroyed"):
                read(document)
    finally:
        lab.stop()


def test_what_a_hold_keeps_keeps_its_key(lab: EncryptedLab) -> None:
    lab.project()
    going, held = lab.run("going"), lab.run("held")
    applied = lab.write(deletions.apply, Apply(selection=Selection(ids=[going.id, held.id])))
    lab.write(deletions.purge, PurgeDeletion(id=applied.deletion_id))
    lab.write(holds.set_, SetHold(matter="a case", ids=[held.id]))
    lab.worker.run_all()
    assert going.id not in live_keys(lab)
    assert held.id in live_keys(lab)
    lab.stop()
    lab.start(master_key=MASTER)  # nor does a start destroy it
    assert held.id in live_keys(lab)
    found = history.read(lab.store, lab.actor, ReadHistory(id=held.id, stream="history", include="trashed"))
    assert len(found.table) == 5


# --- attachments ------------------------------------------------------------------------------------------------------


def test_an_attachment_stays_in_the_project_that_it_was_uploaded_to(lab: EncryptedLab) -> None:
    logs = [Target(Home.log, lab.project().id), Target(Home.log, lab.project("open", encrypt=False).id)]
    sets = [TraceSet(target=log, rows=[RowIn(id="r")], attachments=("key",)) for log in logs]
    lab.write(traces.write, WriteTraces(sets=sets[:1]))
    (owner,) = {row["item_id"] for row in table(lab, t.fields) if row["path"] == "attachment.key"}
    stored = files.put(lab.store, lab.actor, files.UploadTo(id=owner), b"attached")
    received = Receive(key="key", path="attachments/key/a.txt", digest=stored.digest, size=stored.size)
    lab.write(attachments.receive, received)
    lab.write(traces.write, WriteTraces(sets=sets[1:]))
    assert [row["owner_id"] for row in table(lab, t.files)] == [owner]
    assert lab.content(owner, "attachments/key/a.txt") == b"attached"

"""``labkeep receipt`` and ``labkeep audit``: what they show, what they save, and that a changed file is found out."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.unit.cli.folder_cli import Cli, MakeRun

SERVER = "http://127.0.0.1:9"


@pytest.fixture
def purged(cli: Cli, make_run: MakeRun) -> str:
    """A deletion that was purged."""
    run = make_run("secret project name", "finished")
    trashed = cli.client.runs.trash(run, reason="=cmd|' /C calc'!A0", ticket="OPS-7")
    outcome = cli.client.deletions.purge(str(trashed.deletion_id), reason="asked by the owner")
    cli.client.jobs.wait(str(outcome.job_id))
    return str(trashed.deletion_id)


def keys_file(cli: Cli, folder: Path) -> Path:
    path = folder / "keys.json"
    cli.lines("receipt", "keys", "--save", str(path))
    return path


def test_a_receipt_is_listed_shown_saved_and_verified_without_the_server(cli: Cli, purged: str, tmp_path: Path) -> None:
    (listed,) = cli.json("receipt", "ls", "--about", purged)["items"]
    assert listed["subject_id"] == purged
    shown = cli.json("receipt", "show", purged)
    assert shown == listed == cli.json("receipt", "show", listed["id"])
    body = shown["body"]
    assert (body["what"]["counts"], body["what"]["items"]) == ({"run": 1}, 1)
    assert body["why"]["ticket"] == "OPS-7"
    assert body["why"]["purge_reason"] == "asked by the owner"
    assert body["verification"]["rows_left"] == body["verification"]["blobs_left"] == 0
    assert "secret project name" not in str(shown)

    file, keys = tmp_path / "receipt.json", keys_file(cli, tmp_path)
    cli.lines("receipt", "save", purged, str(file))
    assert cli("receipt", "save", purged).stdout.encode() == file.read_bytes()
    verdict = cli.json("receipt", "verify", str(file), "--keys", str(keys))
    assert (verdict["valid"], verdict["key_state"], verdict["body"]) == (True, "current", body)
    assert "Valid" in cli("receipt", "verify", str(file)).stdout


def test_a_changed_receipt_ends_with_the_exit_code_of_damage(cli: Cli, purged: str, tmp_path: Path) -> None:
    file, keys = tmp_path / "receipt.json", keys_file(cli, tmp_path)
    cli.lines("receipt", "save", purged, str(file))
    file.write_bytes(file.read_bytes().replace(b'"items":1', b'"items":2'))
    result = cli("receipt", "verify", str(file), "--keys", str(keys))
    assert (result.exit_code, result.stdout.splitlines()[0]) == (7, "NOT VALID")


def test_after_a_rotation_the_old_receipt_verifies_with_a_retired_key(cli: Cli, purged: str, tmp_path: Path) -> None:
    file = tmp_path / "receipt.json"
    cli.lines("receipt", "save", purged, str(file))
    old = cli.json("receipt", "show", purged)["signing_key_id"]
    made = cli.json("receipt", "rotate-key")
    assert [key[-1] for key in cli.lines("receipt", "keys")] == [made["kid"], old]
    assert cli.json("receipt", "verify", str(file))["key_state"] == "retired"
    few = tmp_path / "few.json"
    few.write_bytes(msgspec.json.encode({"keys": [made]}))
    refused = cli("receipt", "verify", str(file), "--keys", str(few), "--json")
    assert (refused.exit_code, msgspec.json.decode(refused.stdout)["key_state"]) == (7, "unknown")


def test_where_nothing_can_check_a_signature_the_command_says_what_to_install(
    cli: Cli, purged: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, keys = tmp_path / "receipt.json", keys_file(cli, tmp_path)
    cli.lines("receipt", "save", purged, str(file))
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric.ed25519", None)
    refused = cli.error("receipt", "verify", str(file), "--keys", str(keys))
    assert "pip install cryptography" in refused["message"]


def test_keys_that_are_none_or_cannot_be_had_are_said(cli: Cli, purged: str, tmp_path: Path) -> None:
    file = tmp_path / "receipt.json"
    cli.lines("receipt", "save", purged, str(file))
    assert "not a key file" in cli.error("receipt", "verify", str(file), "--keys", str(file))["message"]
    assert "cannot be had" in cli.error("receipt", "verify", str(file), "--keys", SERVER)["message"]


def test_a_deletion_that_is_not_purged_has_no_receipt_and_says_where_it_stands(cli: Cli, make_run: MakeRun) -> None:
    trashed = cli.client.runs.trash(make_run("r", "finished"))
    refused = cli.error("receipt", "show", str(trashed.deletion_id))
    assert refused["exit_code"] == 4
    assert "is trashed: it has no receipt" in refused["message"]


def test_an_export_is_verified_without_the_server_and_a_changed_one_is_found_out(
    cli: Cli, purged: str, tmp_path: Path
) -> None:
    file, keys = tmp_path / "trail.jsonl", keys_file(cli, tmp_path)
    written = cli.json("audit", "export", "--output", str(file))
    report = cli.json("audit", "verify", str(file), "--keys", str(keys))
    assert (report["intact"], report["first"], report["last"]) == (True, 1, written["last"])
    assert report["checkpoint"] == written["last"]
    assert "secret project name" not in file.read_text()
    lines = file.read_bytes().splitlines(keepends=True)
    for name, changed, where in (
        ("a reason", file.read_bytes().replace(b"OPS-7", b"OPS-8"), "BROKEN at event"),
        ("an event less", b"".join(lines[:3] + lines[4:]), "BROKEN at event"),
        ("half a line", file.read_bytes()[:-9], "breaks off"),
    ):
        file.write_bytes(changed)
        result = cli("audit", "verify", str(file), "--keys", str(keys))
        assert result.exit_code == 7, name
        assert where in result.stdout, name


def test_an_export_as_csv_has_no_formulas_and_digests_for_the_names_of_what_is_gone(
    cli: Cli, purged: str, tmp_path: Path
) -> None:
    file = tmp_path / "trail.csv"
    cli.lines("audit", "export", "--output", str(file), "--format", "csv")
    with file.open(newline="") as text:
        rows: list[dict[str, Any]] = list(csv.DictReader(text))
    (trashed,) = [row for row in rows if (row["event"], row["deletion_id"]) == ("run.trashed", purged)]
    assert trashed["reason"] == "'=cmd|' /C calc'!A0"
    assert trashed["subject_name"].startswith("sha256:")
    assert (trashed["subject_status"], trashed["subject_created_by"]) == ("finished", "admin")
    assert (trashed["actor"], trashed["ticket"], trashed["deletion_id"]) == ("admin", "OPS-7", purged)
    assert not any(value[:1] in "=+-@" for row in rows for value in row.values() if value)


def test_each_object_of_a_deletion_has_a_line_of_its_own(cli: Cli, purged: str, tmp_path: Path) -> None:
    cli.client.projects.create("still there", exist_ok=True)
    ids = [cli.client.runs.create("still there", name=name, status="failed").id for name in ("=a", "b")]
    cli.lines("trash", *ids, "--reason", "two of them", "--yes")
    file = tmp_path / "objects"
    written = cli.json("audit", "objects", "--output", str(file))
    with file.open(newline="") as text:
        rows: list[dict[str, Any]] = list(csv.DictReader(text))
    assert written["objects"] == len(rows)
    gone = [row for row in rows if row["deletion_id"] == purged]
    assert {row["outcome"] for row in gone} == {"purged"}
    assert all(row["name"].startswith("sha256:") and row["purged_at"] for row in gone)
    both = [row for row in rows if row["id"] in ids]
    assert [(row["name"], row["status"], row["objects"]) for row in both] == [
        ("'=a", "failed", "2"),
        ("b", "failed", "2"),
    ]
    assert {(row["trashed_by"], row["reason"], row["outcome"]) for row in both} == {("admin", "two of them", "trashed")}
    cli.lines("audit", "objects", "--output", str(file), "--format", "jsonl", "--until", "2020-01-01")
    assert file.read_bytes() == b""
    pages = [cli.client.audit.objects(limit=size) for size in (1, 1000)]
    assert [one.id for one in pages[0]] == [one.id for one in pages[1]] == [row["id"] for row in rows]


@pytest.mark.parametrize("format", ["jsonl", "csv"])
def test_an_export_that_broke_off_is_gone_on_with(cli: Cli, purged: str, tmp_path: Path, format: str) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    options = ("--format", format, "--until", "2999-01-01")
    cli.lines("audit", "export", "--output", str(whole), *options)
    data = whole.read_bytes()
    for end in (len(data) // 3, len(data) // 2, len(data) - 1):
        broken.write_bytes(data[:end])
        cli.lines("audit", "export", "--output", str(broken), *options, "--resume")
        assert broken.read_bytes().splitlines()[1:] == data.splitlines()[1:], end
    broken.write_bytes(b"something else\n")
    refused = cli.error("audit", "export", "--output", str(broken), *options, "--resume")
    assert "is no export of an audit trail" in refused["message"]
    assert broken.read_bytes() == b"something else\n"


def test_the_trail_of_the_server_is_verified_with_its_checkpoints(cli: Cli, purged: str) -> None:
    signed = cli.json("audit", "checkpoint")
    report = cli.json("audit", "verify")
    assert (report["intact"], report["checkpoint"], report["problems"]) == (True, signed["seq"], [])
    assert cli.json("audit", "checkpoints")["items"][0] == signed
    assert "signed checkpoints" in cli("audit", "verify").stdout


def test_the_receipt_of_an_erasure_says_what_it_was_about(cli: Cli) -> None:
    cli.client.projects.create("asked", exist_ok=True)
    run = cli.client.runs.create("asked", status="finished", notes="by u-4711-x").id
    words = ("u-4711-x", "--whole", "run", "--ticket", "DSR-1")
    request = cli("erasure", "create", *words).stdout.strip()
    assert f"run {run}: fields 1; would be deleted" in cli("erasure", "preview", request).stdout
    assert cli("erasure", "run", request, "--yes").stdout.startswith("done")
    receipt = cli.json("erasure", "show", request)["receipt_id"]
    shown = dict(line[:2] for line in cli.lines("receipt", "show", receipt))
    (deletion,) = cli.json("receipt", "show", receipt)["body"]["deletions"]
    assert (shown["what"], shown["deletions"], shown["ticket"]) == ("1 object", str([deletion]), "DSR-1")
    assert ["1 object", "DSR-1"] in [line[2:4] for line in cli.lines("receipt", "ls", "--kind", "erasure")]
    assert cli.json("receipt", "show", deletion)["body"]["what"]["item_ids"] == [run]

"""Making master keys, and changing them."""

from __future__ import annotations

import base64
import stat
from pathlib import Path

import pytest

from labkeep import Labkeep
from labkeep.storage import master_key
from tests.unit.cli.folder_cli import Cli


def test_keygen_prints_a_key_that_the_settings_take(cli: Cli) -> None:
    printed = cli("keygen", "master").stdout.strip()
    assert len(base64.b64decode(printed)) == 32
    assert master_key.parse(printed).id != master_key.parse(cli("keygen", "master").stdout).id


def test_keygen_writes_a_file_that_only_its_owner_reads_and_never_over_another(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "master.key"
    assert cli("keygen", "master", "--out", str(file)).exit_code == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    before = master_key.load("", str(file))
    refused = cli("keygen", "master", "--out", str(file))
    assert refused.exit_code != 0
    assert "not written over" in refused.stderr
    after = master_key.load("", str(file))
    assert before is not None
    assert after is not None
    assert before.id == after.id


def test_a_folder_is_opened_with_the_master_key_of_the_environment_and_its_key_changed(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new, folder = tmp_path / "old.key", tmp_path / "new.key", tmp_path / "store"
    for file in (old, new):
        cli("keygen", "master", "--out", str(file))
    monkeypatch.setenv("LABKEEP_MASTER_KEY_FILE", str(old))
    with Labkeep.local(folder) as client:
        client.projects.create("secret", settings={"encrypt": True})
        run = client.runs.create("secret", status="finished")
        client.files.upload(run.id, "a.txt", b"for few eyes")
        assert client.projects.encryption("secret").contents["files"].encrypted_bytes == 12
    turned = cli.json("rotate-master-key", "--data", str(folder), "--new-file", str(new))
    assert turned["data_keys"] == 3  # of the project, of the blob, and of the answers that may be asked for again
    monkeypatch.setenv("LABKEEP_MASTER_KEY_FILE", str(new))
    with Labkeep.local(folder) as client:
        assert client.files.read(run.id, "a.txt") == b"for few eyes"


def test_an_export_is_for_its_owner_alone_and_says_what_it_holds_in_plain(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, path = tmp_path / "master.key", tmp_path / "out.labkeep"
    cli("keygen", "master", "--out", str(key))
    monkeypatch.setenv("LABKEEP_MASTER_KEY_FILE", str(key))
    with Labkeep.local(tmp_path / "store") as client:
        inside = Cli(tmp_path / "store", client)
        client.projects.create("open")
        client.projects.create("secret", settings={"encrypt": True})
        run = client.runs.create("secret", status="finished")
        for words in (("-p", "secret"), (run.id,), ()):
            assert inside("export", str(path), *words).stderr.startswith("secret encrypts what it holds")
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            path.unlink()
        assert inside("export", str(path), "-p", "open").stderr == ""

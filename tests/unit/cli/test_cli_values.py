"""Settings and their origins, variables of other SDKs, values by path, plans and outcomes in words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from labkeep.cli.origins import HIDDEN, descriptions, explain
from labkeep.cli.paths import columns_of, value_at
from labkeep.cli.plans import conflict, describe, report, undo_command, verified
from labkeep.core.commands import Blocker, Outcome, Plan
from labkeep.core.connect import SYSTEMS, environment, served, system_named
from labkeep.core.entities import Deletion, Run
from labkeep.core.errors import Held, Illegal, InUse, Invalid, Unsupported
from labkeep.core.lifecycle import Kind
from labkeep.settings import Settings

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
ID = "0199f0a1-7c3e-7d10-8a52-6f1e2b9c4d77"

# --- settings


def _origins(config: Path | None, environ: dict[str, str]) -> dict[str, tuple[Any, str]]:
    return {line["name"]: (line["value"], line["origin"]) for line in explain(config, environ)}


def test_every_setting_says_where_its_value_comes_from(tmp_path: Path) -> None:
    config = tmp_path / "labkeep.toml"
    config.write_text("port = 9000\ngrace_days = 7\n")
    found = _origins(config, {"LABKEEP_PORT": "9001"})
    assert found["port"] == (9001, "LABKEEP_PORT")
    assert found["grace_days"] == (7, str(config))
    assert found["host"] == ("127.0.0.1", "default")
    assert set(found) == set(Settings.__struct_fields__)


def test_every_setting_is_described() -> None:
    assert all(descriptions().values())
    assert list(descriptions()) == list(Settings.__struct_fields__)


def test_no_secret_of_the_settings_is_shown() -> None:
    secret = "s3cr3t-value"
    environ = {
        "LABKEEP_ADMIN_KEY": f"lk-{secret}",
        "LABKEEP_DATABASE_URL": f"postgresql+psycopg://ada:{secret}@db:5432/labkeep",
        "LABKEEP_BLOBS_OPTIONS": f'{{"secret_access_key": "{secret}", "region": "eu-1"}}',
    }
    found = _origins(None, environ)
    assert secret not in str(found)
    assert found["admin_key"] == (HIDDEN, "LABKEEP_ADMIN_KEY")
    assert found["database_url"][0] == f"postgresql+psycopg://ada:{HIDDEN}@db:5432/labkeep"
    assert found["blobs_options"][0] == {"secret_access_key": HIDDEN, "region": "eu-1"}


def test_a_setting_that_is_none_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "labkeep.toml"
    config.write_text("prot = 9000\n")
    with pytest.raises(Invalid, match="prot"):
        explain(config, {})


# --- other systems


def test_the_variables_hold_the_prefixed_address_and_the_key() -> None:
    found = environment(system_named("braintrust"), "http://labkeep:8080/", "lk-key")
    assert found == {
        "BRAINTRUST_APP_URL": "http://labkeep:8080/braintrust",
        "BRAINTRUST_API_URL": "http://labkeep:8080/braintrust",
        "BRAINTRUST_BASE_URL": "http://labkeep:8080/braintrust",
        "BRAINTRUST_API_KEY": "lk-key",
    }


@pytest.mark.parametrize("name", [name for name, system in SYSTEMS.items() if not system.served])
def test_a_system_that_is_not_served_yet_is_refused_honestly(name: str) -> None:
    with pytest.raises(Unsupported, match=f"does not answer the SDK of {name} yet; supported: {', '.join(served())}"):
        system_named(name)


def test_an_unknown_system_is_told_what_is_supported() -> None:
    with pytest.raises(Invalid, match=f"supported: {', '.join(served())}"):
        system_named("spreadsheet")


# --- values of a run


def _run(**fields: Any) -> Run:
    known: dict[str, Any] = {
        "id": ID,
        "organization_id": ID,
        "workspace_id": ID,
        "parent_id": ID,
        "kind": Kind.run,
        "name": "baseline",
        "created_at": NOW,
        "updated_at": NOW,
    }
    return Run(**known, **fields)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("summary.acc", 0.9),
        ("acc", 0.9),
        ("config.optimizer.lr", 0.1),
        ("optimizer.lr", 0.1),
        ("summary.val.loss", 0.2),
        ("summary.val.deep.er", 1),
        ("name", "baseline"),
        ("status", "running"),
        ("summary.nothing", None),
        ("nothing", None),
        ("config.optimizer.lr.more", None),
    ],
)
def test_a_path_finds_what_was_logged_also_where_keys_have_dots(path: str, value: object) -> None:
    run = _run(
        summary={"acc": 0.9, "val.loss": 0.2, "val": {"deep.er": 1}}, config={"optimizer": {"lr": 0.1}, "acc": "no"}
    )
    assert value_at(path, run) == value


def test_columns_are_separated_by_commas_or_given_one_by_one() -> None:
    columns = columns_of(["summary.acc, config.lr", "notes"])
    assert [column.title for column in columns] == ["ACC", "LR", "NOTES"]
    assert columns[0].value(_run(summary={"acc": 1})) == 1


# --- plans and outcomes


def _plan(**fields: Any) -> Plan:
    known: dict[str, Any] = {
        "id": ID,
        "verb": "trash",
        "hash": "h",
        "counts": {"run": 3},
        "bytes": 0,
        "freed_bytes": 0,
        "names_freed": [],
        "unbinds": [],
        "stops": 0,
        "blockers": [],
        "blocked": 0,
        "restorable_until": None,
        "created_at": NOW,
    }
    return Plan(**{**known, **fields})


def _text(plan: Plan) -> str:
    return "\n".join(describe(plan, NOW))


def test_a_plan_says_all_that_would_happen() -> None:
    text = _text(
        _plan(
            bytes=43_254_890,
            freed_bytes=2048,
            stops=1,
            names_freed=[f"name-{number}" for number in range(12)],
            unbinds=[{"type": "environment", "name": "production"}],
            restorable_until=NOW + timedelta(days=30),
        )
    )
    assert text.startswith("This would trash 3 runs (41.3 MiB)")
    assert "at least 2.0 KiB" in text
    assert "stops first: 1 running run" in text
    assert "name-9 and 2 more" in text
    assert "unbinds: environment production" in text
    assert "can be restored until: 2026-12-" in text


def test_a_plan_of_a_purge_says_that_it_cannot_be_taken_back() -> None:
    assert "cannot be taken back" in _text(_plan(verb="purge"))
    assert "cannot be taken back" not in _text(_plan())


@pytest.mark.parametrize(
    ("override", "kind", "shown"),
    [("on_running=stop", Illegal, "[--on-running stop]"), ("force", InUse, "[--force]"), ("", Held, "")],
)
def test_a_plan_names_what_must_stay_and_what_overrides_it(override: str, kind: type[Any], shown: str) -> None:
    blocker = Blocker(ID, "run", "a", "run a must stay", override)
    plan = _plan(blockers=[blocker], blocked=2)
    assert "2 must stay, so nothing would be done" in _text(plan)
    assert shown in _text(plan)
    assert "… and 1 more" in _text(plan)
    error = conflict(plan)
    assert type(error) is kind
    assert error.message == "run a must stay (and 1 more); nothing was done"


def test_a_name_in_a_plan_cannot_steer_the_terminal() -> None:
    hostile = "\x1b[2J"
    plan = _plan(
        names_freed=[hostile],
        unbinds=[{"type": "environment", "name": hostile}],
        blockers=[Blocker(ID, "run", hostile, hostile)],
        blocked=1,
    )
    assert "\x1b" not in _text(plan)


def test_what_was_trashed_comes_with_the_command_that_brings_it_back() -> None:
    outcome = Outcome(verb="trash", counts={"run": 1}, bytes=10, deletion_id=ID, undo=ID, restorable_until=NOW)
    lines = list(report(outcome, [], NOW))
    assert lines[0] == "trashed 1 run (10 B)"
    assert lines[-1] == f"undo: labkeep restore --deletion {ID}"


def test_an_archive_is_undone_by_the_ids_while_they_fit_on_a_line() -> None:
    outcome = Outcome(verb="archive", counts={"run": 1})
    assert undo_command(outcome, [ID]) == f"labkeep unarchive {ID}"
    assert undo_command(Outcome(verb="unarchive", counts={"run": 1}), [ID]) == f"labkeep archive {ID}"
    assert undo_command(outcome, [ID] * 6) == ""
    assert undo_command(outcome, []) == ""
    assert undo_command(Outcome(verb="archive", counts={}, already=1), [ID]) == ""


def test_doing_it_again_says_that_it_was_done() -> None:
    assert list(report(Outcome(verb="archive", counts={}, already=2), [], NOW)) == [
        "nothing to archive: 2 already archived"
    ]


def test_a_binding_that_could_not_be_put_back_is_named() -> None:
    outcome = Outcome(verb="restore", counts={"document": 1}, not_rebound=[{"name": "production", "taken_by": ID}])
    assert f"not bound again: name production, taken_by {ID}" in list(report(outcome, [], NOW))


def test_a_purge_reports_what_verified_it() -> None:
    record = Deletion(
        id=ID,
        organization_id=ID,
        workspace_id=ID,
        state="purged",
        actor="ada",
        key_id=ID,
        plan_hash="h",
        counts={"run": 2},
        bytes=3072,
        created_at=NOW,
        restorable_until=NOW,
        verification={"freed_bytes": 1024, "tables_read": 12, "blobs_removed": 1},
    )
    other = msgspec.structs.replace(record, counts={"run": 1, "artifact": 1})
    assert verified([record, other]) == (
        "purged 3 runs, 1 artifact (6.0 KiB): freed 2.0 KiB, verified "
        "(2 blobs removed, 12 tables and the blob store read again, nothing left)"
    )

"""When a conformance scenario counts as passed, and what it may see of the machine."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.conformance.run import DIALECTS, SCENARIOS, Outcome, run_scenario, scenarios


def _run(tmp_path: Path, source: str, **environment: str) -> Outcome:
    script = tmp_path / "s00_example.py"
    script.write_text(source)
    return run_scenario("braintrust", script, environment, python=Path(sys.executable))


@pytest.mark.parametrize(
    ("source", "ok"),
    [
        ("print('some words'); print('OK s00')", True),
        ("print('PASS')", True),
        ("print('OK s00'); raise SystemExit(1)", False),
        ("print('OK s00'); print('and then something went wrong')", False),
        ("assert False", False),
        ("", False),
    ],
)
def test_a_scenario_passes_only_when_it_says_so_last_and_exits_with_0(tmp_path: Path, source: str, ok: bool) -> None:
    assert _run(tmp_path, source).ok is ok


def test_a_failed_scenario_shows_everything_it_printed(tmp_path: Path) -> None:
    outcome = _run(tmp_path, "import sys; print('out'); sys.stdout.flush(); print('err', file=sys.stderr); sys.exit(1)")
    assert outcome.output.split() == ["out", "err"]


def test_a_scenario_sees_an_empty_folder_and_only_its_own_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BRAINTRUST_APP_URL", "from the shell")
    source = "import os; print('OK', os.listdir(), os.environ['MINE'], os.environ.get('BRAINTRUST_APP_URL'))"
    assert _run(tmp_path, source, MINE="yes").output.strip() == "OK [] yes None"


def test_every_dialect_has_scenarios_and_every_scenario_a_dialect() -> None:
    assert all(scenarios(dialect) for dialect in DIALECTS)
    assert {folder.name for folder in SCENARIOS.iterdir() if folder.is_dir()} == set(DIALECTS)
    scripts = {script for dialect in DIALECTS for script in scenarios(dialect)}
    assert {file for file in SCENARIOS.rglob("*.py") if not file.name.startswith("_")} == scripts


def test_scenarios_are_chosen_by_the_start_of_their_names() -> None:
    every = scenarios("braintrust")
    wanted = [script for script in every if script.stem.startswith("s03") or script.stem.startswith("s1")]
    assert scenarios("braintrust", ["s03", "s1"]) == wanted
    assert 0 < len(wanted) < len(every)

"""What `make test` prints last has to be true: the runner's own tests."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from scripts import check


def _python(source: str) -> check.Command:
    return check.Command((sys.executable, "-c", source))


def _pytest(file: Path) -> check.Command:
    return check.Command((sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-n", "0", str(file)), tests=True)


def test_a_step_is_ok_only_when_all_its_commands_are(tmp_path: Path) -> None:
    good, bad = _python(""), _python("raise SystemExit(3)")
    assert check.run_step("good", [good], tmp_path).ok
    assert not check.run_step("mixed", [bad, good], tmp_path).ok


def test_the_total_counts_the_tests_of_every_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "test_numbers.py"
    file.write_text("def test_one(): pass\ndef test_two(): pass\ndef test_three(): assert False\n")
    steps = {"lint": [_python("")], "tests": [_pytest(file)], "more": [_pytest(file)]}
    outcomes = [check.run_step(step, commands, tmp_path) for step, commands in steps.items()]
    check.report(outcomes)
    assert [outcome.ok for outcome in outcomes] == [True, False, False]
    assert capsys.readouterr().out.splitlines()[-1].startswith("FAILED: tests, more; 4 passed, 2 failed;")


def test_a_test_run_that_dies_without_a_report_counts_as_a_failure(tmp_path: Path) -> None:
    (tmp_path / "tests.xml").write_text("<testsuites><testsuite tests='7'/></testsuites>")
    dies = check.Command((sys.executable, "-c", "import os; os._exit(9)"), tests=True)
    outcome = check.run_step("tests", [dies], tmp_path)
    assert not outcome.ok
    assert outcome.counts == check.Counts(failed=1)

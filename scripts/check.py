"""Run everything that CI runs, step by step, and end with one total.

    python scripts/check.py              every step
    python scripts/check.py lint         the named steps only
    python scripts/check.py --write      write the generated files instead of checking them

A failing step does not stop the ones after it: one run tells everything that is wrong. The exit code is 0 only
when every step passed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REPORTS = ROOT / ".cache" / "reports"
BIN = Path(sys.executable).parent

#: Scripts that write files which are committed; with ``--check`` they say whether the files are up to date.
GENERATORS = (
    "scripts/unasync.py",
    "scripts/reference.py",
    "scripts/coverage_braintrust.py",
    "scripts/coverage_wandb.py",
)


@dataclass(frozen=True)
class Command:
    """One process. ``tests`` says that it is pytest, whose report is counted."""

    argv: tuple[str, ...]
    tests: bool = False


@dataclass(frozen=True)
class Counts:
    """How many tests a step ran, and what became of them."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.passed + other.passed, self.failed + other.failed, self.skipped + other.skipped)

    def __str__(self) -> str:
        skipped = f", {self.skipped} skipped" if self.skipped else ""
        return f"{self.passed} passed, {self.failed} failed{skipped}"


@dataclass(frozen=True)
class Outcome:
    """What one step ended with."""

    step: str
    ok: bool
    seconds: float
    counts: Counts | None


def _python(*argv: str) -> Command:
    return Command((sys.executable, *argv))


def _tool(name: str, *argv: str) -> Command:
    return Command((str(BIN / name), *argv))


def _pytest(*argv: str) -> Command:
    """Ends with the slowest tests: time is scarce where all of this runs for every change."""
    return Command((sys.executable, "-m", "pytest", "--durations=15", "--durations-min=3", *argv), tests=True)


def _generators(*flags: str) -> Iterator[Command]:
    for script in GENERATORS:
        if (ROOT / script).exists():
            yield _python(script, *flags)


#: Two workers, as CI has two cores. A worker with nothing left to do takes from the other: the fault tests are long.
STEPS: dict[str, tuple[Command, ...]] = {
    "lint": (
        _tool("ruff", "check", "."),
        _tool("ruff", "format", "--check", "."),
        _tool("mypy"),
        _tool("lint-imports"),
        *_generators("--check"),
    ),
    "tests": (_pytest("-n", "2", "tests/unit", "tests/property", "tests/contract"),),
    "fault": (_pytest("-n", "2", "--dist", "worksteal", "tests/fault"),),
    "conformance": (
        _python("-m", "tests.conformance.run", "--prepare"),
        _pytest("-n", "2", "tests/conformance"),
    ),
}


def _count(report: Path) -> Counts:
    """Counts from pytest's JUnit file; a run that died before writing it counts as one failure."""
    if not report.exists():
        return Counts(failed=1)
    total = Counts()
    for suite in ElementTree.parse(report).getroot().iter("testsuite"):
        numbers = {name: int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")}
        failed = numbers["failures"] + numbers["errors"]
        total += Counts(numbers["tests"] - failed - numbers["skipped"], failed, numbers["skipped"])
    return total


def _run(command: Command, report: Path) -> tuple[bool, Counts | None]:
    argv = command.argv
    if command.tests:
        report.unlink(missing_ok=True)
        argv = (*argv, f"--junitxml={report}")
    print(f"$ {' '.join(Path(part).name if part == argv[0] else part for part in argv)}", flush=True)
    ok = subprocess.run(argv, cwd=ROOT, check=False).returncode == 0
    return ok, _count(report) if command.tests else None


def run_step(step: str, commands: Sequence[Command], reports: Path = REPORTS) -> Outcome:
    """Run every command of one step, also after one of them failed; ``reports`` is a folder for pytest's reports."""
    print(f"\n== {step} ==", flush=True)
    started = time.monotonic()
    results = [_run(command, reports / f"{step}.xml") for command in commands]
    counted = [counts for _, counts in results if counts is not None]
    return Outcome(
        step=step,
        ok=all(ok for ok, _ in results),
        seconds=time.monotonic() - started,
        counts=sum(counted, Counts()) if counted else None,
    )


def report(outcomes: Sequence[Outcome]) -> None:
    """Print one line per step and the total."""
    print("\n== total ==")
    for outcome in outcomes:
        verdict = "ok  " if outcome.ok else "FAIL"
        print(f"{verdict} {outcome.step:<12} {outcome.seconds:7.1f} s  {outcome.counts or ''}".rstrip())
    total = sum((outcome.counts for outcome in outcomes if outcome.counts), Counts())
    failed = [outcome.step for outcome in outcomes if not outcome.ok]
    seconds = sum(outcome.seconds for outcome in outcomes)
    verdict = f"FAILED: {', '.join(failed)}" if failed else "all steps ok"
    print(f"{verdict}; {total}; {seconds / 60:.1f} min")


def main() -> int:
    """Exit code 0 when every chosen step passed, 1 otherwise."""
    parser = argparse.ArgumentParser(description="Run what CI runs, or the named steps of it.")
    parser.add_argument("steps", nargs="*", choices=[[], *STEPS], metavar="STEP", help=", ".join(STEPS))
    parser.add_argument("--write", action="store_true", help="write the generated files instead of checking them")
    arguments = parser.parse_args()
    if arguments.write:
        return max((subprocess.run(c.argv, cwd=ROOT, check=False).returncode for c in _generators()), default=0)
    REPORTS.mkdir(parents=True, exist_ok=True)
    outcomes = [run_step(step, STEPS[step]) for step in arguments.steps or STEPS]
    report(outcomes)
    return 0 if all(outcome.ok for outcome in outcomes) else 1


if __name__ == "__main__":
    raise SystemExit(main())

"""Run the vendors' unmodified SDKs against a live server.

    python -m tests.conformance.run                        every scenario of every dialect
    python -m tests.conformance.run braintrust             one dialect
    python -m tests.conformance.run braintrust s03 s11     some of its scenarios, by the start of their names
    python -m tests.conformance.run --prepare              only make the virtual environments

A scenario is a script in ``scenarios/<dialect>/``: it uses the SDK as its user would, asserts what the user would
see, prints a line that starts with OK and exits 0. It runs in an empty folder, in the SDK's own virtual environment
(``.venvs/<dialect>``, from ``requirements/conformance-<dialect>.txt``), with the variables of ``DIALECTS`` below.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.conformance.server import LiveServer, live_server

ROOT = Path(__file__).resolve().parent.parent.parent
SCENARIOS = Path(__file__).resolve().parent / "scenarios"
SCENARIO_TIMEOUT_S = 240


@dataclass(frozen=True)
class Dialect:
    """What a vendor's scenarios need: the variables of their environment, and a Python version where one is required."""

    environment: Callable[[LiveServer], dict[str, str]]
    python: str | None = None


def _braintrust(server: LiveServer) -> dict[str, str]:
    return {
        "BRAINTRUST_BASE_URL": f"{server.url}/braintrust",
        "BRAINTRUST_API_KEY": server.new_key(user="braintrust-user"),
    }


def _wandb(server: LiveServer) -> dict[str, str]:
    return {
        "WANDB_BASE_URL": f"{server.url}/wandb",
        "WANDB_API_KEY": server.new_key(user="wandb-user"),
    }


DIALECTS: dict[str, Dialect] = {
    "braintrust": Dialect(_braintrust),
    "wandb": Dialect(_wandb),
}


@dataclass(frozen=True)
class Outcome:
    """What became of one scenario. ``output`` is everything it printed."""

    dialect: str
    scenario: str
    ok: bool
    seconds: float
    output: str


def scenarios(dialect: str, prefixes: Sequence[str] = ()) -> list[Path]:
    """The scripts of a dialect in order; with ``prefixes``, those whose names start with one of them."""
    scripts = sorted((SCENARIOS / dialect).glob("[a-z][0-9]*.py"))
    return [script for script in scripts if not prefixes or script.stem.startswith(tuple(prefixes))]


def _python_for(dialect: str) -> str:
    version = DIALECTS[dialect].python
    if version is None:
        return sys.executable
    return subprocess.run(
        [str(ROOT / "scripts" / "find-python"), version], capture_output=True, text=True, check=True
    ).stdout.strip()


def _create_environment(dialect: str, venv: Path, requirements: Path) -> None:
    print(f"preparing .venvs/{dialect} from {requirements.relative_to(ROOT)}", flush=True)
    shutil.rmtree(venv, ignore_errors=True)
    subprocess.run([_python_for(dialect), "-m", "venv", str(venv)], check=True)
    install = [str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, "--requirement", str(requirements)], check=True)


def prepare(dialect: str) -> Path:
    """Make the dialect's virtual environment unless its pins are unchanged; the path of its Python."""
    venv = ROOT / ".venvs" / dialect
    requirements = ROOT / "requirements" / f"conformance-{dialect}.txt"
    stamp = venv / "requirements.sha256"
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()
    venv.parent.mkdir(exist_ok=True)
    with (venv.parent / f"{dialect}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test workers must not build the same environment
        if not stamp.exists() or stamp.read_text() != digest:
            _create_environment(dialect, venv, requirements)
            stamp.write_text(digest)
    return venv / "bin" / "python"


def _scenario_environment(workdir: Path, extra: Mapping[str, str]) -> dict[str, str]:
    """A bare environment: the caller's settings of this or any SDK must not decide the outcome."""
    return {"PATH": os.environ["PATH"], "HOME": str(workdir), "TMPDIR": str(workdir), "LANG": "C.UTF-8", **extra}


def _run_in(folder: str, argv: Sequence[str], environment: Mapping[str, str]) -> tuple[int | None, str]:
    """Exit code (None after the time limit) and everything that was printed."""
    try:
        done = subprocess.run(
            argv,
            cwd=folder,
            env=_scenario_environment(Path(folder), environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=SCENARIO_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        return None, f"{(late.stdout or b'').decode(errors='replace')}\nno end after {SCENARIO_TIMEOUT_S} s"
    return done.returncode, done.stdout.decode(errors="replace")


def run_scenario(dialect: str, script: Path, environment: Mapping[str, str], python: Path | None = None) -> Outcome:
    """Run one script in an empty folder; ok means exit code 0 and a last line that starts with OK or PASS."""
    python = python or prepare(dialect)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=f"labkeep-{dialect}-") as folder:
        code, output = _run_in(folder, [str(python), str(script)], environment)
    last = (output.strip().splitlines() or [""])[-1]
    ok = code == 0 and last.startswith(("OK", "PASS"))
    return Outcome(dialect, script.stem, ok, time.monotonic() - started, output)


def _run_all(server: LiveServer, chosen: Mapping[str, Sequence[Path]]) -> list[Outcome]:
    environments = {dialect: DIALECTS[dialect].environment(server) for dialect in chosen}
    with ThreadPoolExecutor(max_workers=2) as pool:
        futures = [
            pool.submit(run_scenario, dialect, script, environments[dialect])
            for dialect, scripts in chosen.items()
            for script in scripts
        ]
        return [future.result() for future in futures]


def _report(outcomes: Sequence[Outcome]) -> None:
    for outcome in outcomes:
        if not outcome.ok:
            print(f"\n-- {outcome.dialect}/{outcome.scenario} --\n{outcome.output.rstrip()}")
    print()
    for outcome in outcomes:
        print(
            f"{'ok  ' if outcome.ok else 'FAIL'} {outcome.dialect:<12} {outcome.scenario:<36} {outcome.seconds:6.1f} s"
        )
    print(f"{sum(outcome.ok for outcome in outcomes)} of {len(outcomes)} scenarios passed")


def main() -> int:
    """Exit code 0 when every chosen scenario passed, 1 when one failed, 2 when none was chosen."""
    parser = argparse.ArgumentParser(description="Run the vendors' unmodified SDKs against a live server.")
    parser.add_argument("dialect", nargs="?", choices=sorted(DIALECTS), help="all of them when left out")
    parser.add_argument("scenario", nargs="*", help="the start of a scenario's name, such as s03")
    parser.add_argument("--prepare", action="store_true", help="only make the virtual environments")
    arguments = parser.parse_args()
    dialects = [arguments.dialect] if arguments.dialect else sorted(DIALECTS)
    for dialect in dialects:
        prepare(dialect)
    if arguments.prepare:
        return 0
    chosen = {dialect: scenarios(dialect, arguments.scenario) for dialect in dialects}
    if not any(chosen.values()):
        print(f"no scenario starts with {' or '.join(arguments.scenario)}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="labkeep-conformance-") as folder, live_server(Path(folder)) as server:
        outcomes = _run_all(server, chosen)
        _, failed, rest = server.log.read_text().partition("Traceback")
    _report(outcomes)
    if failed:
        print(f"the server failed, first with:\n{failed}{rest[:5_000]}")
    return 0 if all(outcome.ok for outcome in outcomes) and not failed else 1


if __name__ == "__main__":
    raise SystemExit(main())

"""What only a whole process can show: import time, the end without `finish`, forks, the generated client."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.client.fake_server import FakeServer

ROOT = Path(__file__).resolve().parents[3]

BY_ITS_OWN = {"msgspec", "httpx2", "numpy", "starlette", "sqlalchemy", "asyncio", "http.client", "logging"}


def python(script: str, *, code: int = 0, **environment: str) -> str:
    """Run a script; its output."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def test_importing_costs_next_to_nothing() -> None:
    heavy = python(f"import sys, labkeep; print(sorted({BY_ITS_OWN!r} & set(sys.modules)))")
    assert heavy.strip() == "[]"


def test_tracking_needs_neither_the_async_client_nor_numpy() -> None:
    heavy = python("import sys, labkeep; labkeep.init(mode='disabled'); print({'httpx2', 'numpy'} & set(sys.modules))")
    assert heavy.strip() == "set()"


def test_every_public_name_is_there() -> None:
    python("import labkeep\nfor name in labkeep.__all__:\n    name in ('config', 'summary') or getattr(labkeep, name)")
    assert "Labkeep" in python("import labkeep; print(dir(labkeep))")
    assert "no attribute 'nothing'" in python("import labkeep; labkeep.nothing", code=1)


SCRIPT = """
import labkeep
run = labkeep.init(project="p")
for step in range(10):
    run.log({"a": step})
"""


def test_a_script_that_just_ends_finishes_its_run(server: FakeServer) -> None:
    python(SCRIPT)
    (run,) = server.runs.values()
    assert run["status"] == "finished"
    assert len(server.rows(run["id"])) == 10


@pytest.mark.parametrize(
    ("ending", "code", "status", "exit_code"),
    [("1 / 0", 1, "failed", 1), ("raise KeyboardInterrupt", -2, "stopped", 130)],
)
def test_a_script_that_dies_of_an_error_fails_its_run(
    server: FakeServer, ending: str, code: int, status: str, exit_code: int
) -> None:
    python(SCRIPT + ending, code=code)
    (run,) = server.runs.values()
    assert (run["status"], run["exit_code"]) == (status, exit_code)
    assert len(server.rows(run["id"])) == 10


FORK = """
import os, sys, labkeep, threading
run = labkeep.init(project="p")
run.log({"a": 1}, durable=True)
child = os.fork()
if child == 0:
    run.log({"a": 2})
    labkeep.log({"a": 3})
    run.finish()
    with labkeep.init(project="of the child") as own:
        own.log({"a": 4})
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
run.log({"a": 5})
"""


def test_a_forked_child_neither_logs_to_nor_ends_its_parents_run(server: FakeServer) -> None:
    said = python(FORK)
    assert said.count("forked from") == 1
    parents, childs = server.runs.values()
    assert [row["a"] for row in server.rows(parents["id"])] == [1, 5]
    assert [row["a"] for row in server.rows(childs["id"])] == [4]
    assert parents["status"] == childs["status"] == "finished"


def test_a_script_whose_server_is_away_ends_well_and_keeps_everything(server: FakeServer, spool_dir: Path) -> None:
    server.stop()
    python(SCRIPT)
    assert len(list(spool_dir.glob("*.spool"))) == 1
    server.start()
    assert "Synced(" in python("import labkeep; print(labkeep.sync())")
    (run,) = server.runs.values()
    assert (run["status"], len(server.rows(run["id"]))) == ("finished", 10)


KILLED = """
import labkeep, os, signal, time
run = labkeep.init(project="p")
for step in range(10):
    run.log({"a": step})
run.flush()
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("mode", ["online", "offline"])
def test_a_process_that_is_killed_has_lost_nothing_that_was_flushed(
    server: FakeServer, spool_dir: Path, mode: str
) -> None:
    python(KILLED, code=-9, LABKEEP_MODE=mode)
    python("import labkeep; labkeep.sync()")
    (run,) = server.runs.values()
    assert len(server.rows(run["id"])) == 10


def test_the_client_for_threads_is_what_the_generator_makes() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "unasync.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert done.returncode == 0

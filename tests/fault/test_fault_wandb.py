"""The real W&B client while its server is killed, away, or out of disk: nothing is lost, nothing is there twice."""

from __future__ import annotations

import base64
import os
import resource
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from labkeep import Labkeep
from labkeep.core.entities import Run
from labkeep.core.lifecycle import Status
from tests.conformance.run import prepare
from tests.conformance.server import LABKEEP, LiveServer, free_port

KEY = "lk-" + "f" * 43

AWAY_S = 60
"""How long the server is away: beyond the client's first retries, within the 90 s that it takes to give up a start."""

LOGGER = """
import hashlib, sys, time, wandb

handle, steps, seconds, code = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
waits = {f"x_{channel}_retry_wait_max_seconds": 3 for channel in ("file_stream", "graphql", "file_transfer")}
settings = wandb.Settings(x_file_stream_transmit_interval=1, **waits)  # the same as always, only sooner
run = wandb.init(project="faults", id=handle, config={"lr": 0.1}, settings=settings)
print("started", flush=True)
for step in range(steps):
    run.log({"x": step, "y": step / 2})
    if step == steps // 2:
        artifact = wandb.Artifact("art-" + handle, type="dataset")
        for number in range(20):
            with artifact.new_file(f"{number}.bin", mode="wb") as file:
                file.write(hashlib.sha256(f"{handle} {number}".encode()).digest() * 2000)
        run.log_artifact(artifact)
    time.sleep(seconds / steps)
run.summary["last words"] = "done"
run.finish(exit_code=code)
"""


class Server:
    """A `labkeep serve` that can be killed and started again on its port and folder."""

    def __init__(self, folder: Path) -> None:
        self.live = LiveServer(f"http://127.0.0.1:{free_port()}", KEY, folder / "data", folder / "serve.log")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        port = self.live.url.rpartition(":")[2]
        command = [LABKEEP, "serve", "--data", str(self.live.data), "--port", port]
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.live.data.parent), "LABKEEP_ADMIN_KEY": KEY}
        with self.live.log.open("ab") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + 60
        while not self._answers():
            assert self.process.poll() is None, self.live.log.read_text()
            assert time.monotonic() < deadline, self.live.log.read_text()
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            return b"ok" in self.live.get("/healthz")
        except OSError:
            return False

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(30)
            self.process = None

    def limit_files(self, size: int) -> None:
        """From now on no file of the server may be longer, which is how a full disk looks to it; -1 for no limit."""
        assert self.process is not None
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A running server, whose store has to fit together in the end."""
    running = Server(tmp_path)
    running.start()
    try:
        yield running
    finally:
        running.end()
    checked = subprocess.run(
        [LABKEEP, "check", "--deep", "--data", str(running.live.data)], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


@contextmanager
def logging(server: Server, handle: str, *, steps: int, seconds: float, code: int) -> Iterator[subprocess.Popen[str]]:
    """The real client logs ``steps`` steps in so many seconds, an artifact half way, and ends with ``code``."""
    with tempfile.TemporaryDirectory(prefix="labkeep-fault-") as home:
        process = subprocess.Popen(
            [str(prepare("wandb")), "-c", LOGGER, handle, str(steps), str(seconds), str(code)],
            env=_client_environment(server.live, home),
            cwd=home,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()


def _client_environment(live: LiveServer, home: str) -> Mapping[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": home,
        "WANDB_BASE_URL": f"{live.url}/wandb",
        "WANDB_API_KEY": KEY,
        "WANDB_ERROR_REPORTING": "false",
        "WANDB_CONSOLE": "off",
        "WANDB_HTTP_TIMEOUT": "90",  # the client asks who it is before it logs an artifact, and gives up after 19 s
    }


def wait_started(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("started"):
            return
    raise AssertionError("".join(lines))


def assert_complete(server: Server, process: subprocess.Popen[str], handle: str, *, steps: int, code: int) -> None:
    """Every step once, the artifact whole, summary and exit code as the client said them."""
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    with Labkeep(KEY, server.live.url) as client:
        run = next(run for run in client.runs.list("faults") if run.handle == handle)
        assert (run.status, run.exit_code) == (Status.failed if code else Status.finished, code)
        assert run.config == {"lr": 0.1}
        assert (run.summary["x"], run.summary["last words"]) == (steps - 1, "done")
        assert_steps(client, run, steps)
        version = client.artifacts.resolve("faults", f"art-{handle}:v0")
        paths = {file.path for file in client.files.list(version.id)}
        assert paths - {".wandb/manifest.json"} == {f"{number}.bin" for number in range(20)}
        assert all(len(client.files.read(version.id, f"{number}.bin")) == 64_000 for number in range(20))


def assert_steps(client: Labkeep, run: Run, steps: int) -> None:
    rows = list(client.runs.history(run.id))
    assert [row["_step"] for row in rows] == list(range(steps))
    assert [(row["x"], row["y"]) for row in rows] == [(step, step / 2) for step in range(steps)]
    assert client.runs.count_rows(run.id) == steps


def test_a_server_that_is_killed_again_and_again_has_every_step_once(server: Server) -> None:
    with logging(server, "killed", steps=3000, seconds=7, code=3) as process:
        wait_started(process)
        for pause in (1.3, 2.1, 0.4):
            time.sleep(pause)
            server.end(signal.SIGKILL)
            server.start()
        assert_complete(server, process, "killed", steps=3000, code=3)


def test_a_server_that_is_away_for_a_minute_gets_all_that_was_logged_meanwhile(server: Server) -> None:
    with logging(server, "before", steps=600, seconds=6, code=0) as before:
        wait_started(before)
        time.sleep(1)
        server.end()
        with logging(server, "meanwhile", steps=50, seconds=1, code=7) as meanwhile:  # announced while nobody answers
            time.sleep(AWAY_S)
            server.start()
            assert_complete(server, before, "before", steps=600, code=0)
            assert_complete(server, meanwhile, "meanwhile", steps=50, code=7)


def _status_of_a_write(server: Server) -> int:
    """What a run's next piece is answered."""
    said = base64.b64encode(f"api:{KEY}".encode()).decode()
    request = urllib.request.Request(
        f"{server.live.url}/wandb/files/default/faults/full/file_stream", b"{}", {"Authorization": f"Basic {said}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return int(response.status)
    except urllib.error.HTTPError as refused:
        refused.close()
        return refused.code


def test_a_full_disk_is_a_passing_trouble(server: Server) -> None:
    with logging(server, "full", steps=2000, seconds=8, code=0) as process:
        wait_started(process)
        time.sleep(1.5)
        server.limit_files(4096)
        time.sleep(6)
        assert _status_of_a_write(server) == 503
        with Labkeep(KEY, server.live.url) as client:  # what is there already can be read all the while
            assert any(run.handle == "full" for run in client.runs.list("faults"))
        server.limit_files(resource.RLIM_INFINITY)
        assert_complete(server, process, "full", steps=2000, code=0)

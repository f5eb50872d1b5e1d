"""A real `labkeep serve` in a subprocess, keyed as any operator would key it: through the command line."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

LABKEEP = str(Path(sys.executable).parent / "labkeep")
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 15.0


@dataclass(frozen=True)
class LiveServer:
    """A server that answers. ``admin_key`` belongs to the owner of the workspace `default`."""

    url: str
    admin_key: str
    data: Path
    log: Path

    def cli(self, *arguments: str) -> str:
        """Run `labkeep ARGUMENTS` against this server as its owner; its standard output, stripped.

        Raises AssertionError with both outputs when the command fails.
        """
        environment = _environment({"LABKEEP_URL": self.url, "LABKEEP_API_KEY": self.admin_key})
        done = subprocess.run(
            [LABKEEP, *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        command = " ".join(["labkeep", *arguments])
        assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        return done.stdout.strip()

    def get(self, path: str) -> bytes:
        """The body of a GET as the owner, whichever API ``path`` belongs to; raises HTTPError."""
        request = urllib.request.Request(self.url + path, headers={"Authorization": f"Bearer {self.admin_key}"})
        with urllib.request.urlopen(request, timeout=30) as response:
            body: bytes = response.read()
        return body

    def new_workspace(self, name: str, organization: str | None = None) -> str:
        """Create a workspace, in an organization of its own when one is named; returns its id."""
        return self.cli("workspace", "create", name, *(["--organization", organization] if organization else []))

    def new_key(self, *, workspace: str = "default", user: str = "ada", role: str = "maintainer") -> str:
        """Create a user's key; returns the key."""
        return self.cli("key", "create", "--workspace", workspace, "--user", user, "--role", role)


def _environment(extra: Mapping[str, str]) -> dict[str, str]:
    """The process's environment without any LABKEEP_ setting but ``extra``."""
    return {name: value for name, value in os.environ.items() if not name.startswith("LABKEEP_")} | dict(extra)


def free_port() -> int:
    """A port that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/healthz", timeout=2) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _await_start(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not _answers(url):
        assert process.poll() is None, f"labkeep serve ended with {process.returncode}:\n{log.read_text()}"
        assert time.monotonic() < deadline, f"labkeep serve did not answer in {START_TIMEOUT_S} s:\n{log.read_text()}"
        time.sleep(0.05)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def live_server(folder: Path, settings: Mapping[str, str] | None = None) -> Iterator[LiveServer]:
    """Start a server on an empty data folder below ``folder`` and stop it afterwards.

    ``settings`` are further LABKEEP_ variables. The server's output is kept in ``folder/serve.log``.
    """
    admin_key, port = "lk-" + secrets.token_urlsafe(32), free_port()
    server = LiveServer(f"http://127.0.0.1:{port}", admin_key, folder / "data", folder / "serve.log")
    command = [LABKEEP, "serve", "--data", str(server.data), "--host", "127.0.0.1", "--port", str(port)]
    environment = _environment({"LABKEEP_ADMIN_KEY": admin_key, **(settings or {})})
    with server.log.open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            _await_start(process, server.url, server.log)
            yield server
        finally:
            _stop(process)

"""Servers and workers as processes that can be made to die, and what can be found in the folder they leave."""

from __future__ import annotations

import re
import secrets
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import zstandard

from labkeep import Labkeep
from labkeep.server import check_store
from labkeep.settings import Settings
from tests.conformance.server import LABKEEP, _environment, free_port

SHIM = Path(__file__).resolve().parent / "upstream_sqlite"
START_S = 90.0


class Process:
    """One `labkeep …` process, its output in a log."""

    def __init__(self, arguments: list[str], settings: Mapping[str, str], log: Path) -> None:
        self.log = log
        with log.open("ab") as output:
            environment = _environment(settings)
            self._popen = subprocess.Popen(
                [LABKEEP, *arguments], env=environment, stdout=output, stderr=subprocess.STDOUT
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def code(self) -> int | None:
        """Exit code, None while it lives."""
        return self._popen.poll()

    def wait(self, timeout_s: float = START_S) -> int:
        """Its exit code once it has ended; 137 for one that was killed."""
        code = self._popen.wait(timeout_s)
        return 128 - code if code < 0 else code

    def kill(self) -> None:
        """Without a chance to clean up."""
        self._popen.kill()
        self._popen.wait()

    def stop(self) -> int:
        """As an operator stops it; its exit code."""
        self._popen.send_signal(signal.SIGTERM)
        try:
            return self._popen.wait(60)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"it does not end:\n{self.log.read_text()[-3000:]}") from None

    def wait_for_line(self, text: str) -> None:
        """Until it has printed ``text``."""
        until = time.monotonic() + START_S
        while text not in self.log.read_text():
            assert self.code is None, f"ended with {self.code}:\n{self.log.read_text()[-3000:]}"
            assert time.monotonic() < until, f"did not print {text!r}:\n{self.log.read_text()[-3000:]}"
            time.sleep(0.02)


class Site:
    """A folder, a key and settings under which servers are started, one after the other or side by side."""

    def __init__(self, folder: Path, **settings: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.data, self.log = folder / "data", folder / "serve.log"
        self.key = "lk-" + secrets.token_urlsafe(32)
        self.settings = {"LABKEEP_ADMIN_KEY": self.key} | settings

    def start(self, **extra: str) -> Server:
        """A new server; ``extra`` are variables of its own."""
        return Server(self, self.settings | extra)

    @contextmanager
    def running(self, **extra: str) -> Iterator[Server]:
        """A server that answers, stopped at the end of the block."""
        server = self.start(**extra).await_answer()
        try:
            yield server
        finally:
            if server.code is None:
                server.stop()

    def assert_sound(self) -> None:
        """Every check, down to the last byte, finds nothing; no server need be running."""
        known = {name.removeprefix("LABKEEP_").lower(): text for name, text in self.settings.items()}
        settings = Settings(data=str(self.data), database_url=known.get("database_url", ""))
        report = check_store(settings, deep=True)
        assert report.problems == []
        assert report.clean


class Server(Process):
    """`labkeep serve` on a port of its own."""

    def __init__(self, site: Site, settings: Mapping[str, str]) -> None:
        self.site, port = site, free_port()
        self.url = f"http://127.0.0.1:{port}"
        super().__init__(["serve", "--data", str(site.data), "--port", str(port)], settings, site.log)

    def answers(self, path: str = "/healthz") -> bool:
        try:
            with urllib.request.urlopen(self.url + path, timeout=5) as response:
                return bool(response.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def await_answer(self) -> Self:
        """Until it answers, or has died on the way there."""
        until = time.monotonic() + START_S
        while self.code is None and not self.answers():
            assert time.monotonic() < until, f"does not answer:\n{self.log.read_text()[-3000:]}"
            time.sleep(0.02)
        return self

    def client(self, **options: Any) -> Labkeep:
        """A client that never asks twice, so that what it knows is what was acknowledged."""
        return Labkeep(self.site.key, self.url, **({"max_retries": 0, "timeout": 60.0} | options))


def wait_for_jobs(client: Labkeep, timeout_s: float = 120.0) -> None:
    """Until no job waits or runs; none may have failed."""
    until = time.monotonic() + timeout_s
    # In one look: a job with a rate goes from one of these states to the other and back.
    while any(job.state in ("queued", "running") for job in client.jobs.list(limit=1000).first_page().items):
        assert time.monotonic() < until, [*client.jobs.list()]
        time.sleep(0.02)
    assert list(client.jobs.list(state="failed")) == []


# --- what a folder holds ----------------------------------------------------------------------------------------------

_FRAME = re.compile(re.escape(b"\x28\xb5\x2f\xfd"))
"""How a Zstandard frame begins, wherever it is."""


def find(folder: Path, words: list[str]) -> dict[str, list[str]]:
    """Word -> the files that hold it: as it is, or inside of anything that was compressed."""
    needles = {word: word.encode() for word in words}
    found: dict[str, list[str]] = {}
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        parts = unpacked(file.read_bytes())
        for word, needle in needles.items():
            if any(needle in one for one in parts):
                found.setdefault(word, []).append(str(file.relative_to(folder)))
    return found


def unpacked(data: bytes) -> list[bytes]:
    """``data``, and whatever is compressed in it."""
    return [data, *(_unpack(data, match.start()) for match in _FRAME.finditer(data))]


def _unpack(data: bytes, start: int) -> bytes:
    """What the frame at ``start`` holds; as much of it as there is, when its end was overwritten."""
    frame, unpacked = zstandard.ZstdDecompressor().decompressobj(), bytearray()
    try:
        for at in range(start, min(len(data), start + 2**20), 64):
            if frame.eof:
                break
            unpacked += frame.decompress(data[at : at + 64])
    except zstandard.ZstdError:
        pass
    return bytes(unpacked)

"""No room: writes are refused with a reason, reads go on, and with room again everything works as before."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from labkeep import Labkeep
from labkeep.core.errors import Unavailable
from tests.fault.processes import Server, Site, wait_for_jobs

SMALL = 24 * 2**20
"""Bytes of the small file system: too few for what the test writes, enough for an empty store."""


def _mount(folder: Path) -> bool:
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={SMALL}", "labkeep-test", str(folder)]
    return os.geteuid() == 0 and subprocess.run(command, capture_output=True, check=False).returncode == 0


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """A file system of `SMALL` bytes at ``folder``; False where this process may not mount one."""
    mounted = _mount(folder)
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)


class Full:
    """Takes the room away from a running server, and gives it back."""

    def __init__(self, server: Server, mounted: bool) -> None:
        self.server, self.mounted = server, mounted
        self._ballast = server.site.data / "ballast"

    def take(self) -> None:
        if self.mounted:
            with self._ballast.open("wb", buffering=0) as file:
                try:
                    while True:
                        file.write(bytes(4096))
                except OSError:
                    return
        else:  # no file may grow beyond what the database has now
            self._limit(self.server.site.data.joinpath("labkeep.db-wal").stat().st_size)

    def give_back(self) -> None:
        if self.mounted:
            self._ballast.unlink()
        else:
            self._limit(resource.RLIM_INFINITY)

    def _limit(self, size: int) -> None:
        resource.prlimit(self.server.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


@pytest.fixture(params=["file system", "file size"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Site, bool]]:
    """A site on a small file system, or on a large one where the size of files will be limited."""
    if request.param == "file size":
        yield Site(tmp_path, LABKEEP_SEAL_MIN_ROWS="5"), False
        return
    folder = tmp_path / "small"
    with small_disk(folder) as mounted:
        yield Site(folder, LABKEEP_SEAL_MIN_ROWS="5"), mounted
        shutil.rmtree(folder / "data", ignore_errors=True)


def refused(write: Callable[[], object]) -> str:
    with pytest.raises(Unavailable) as found:
        write()
    return str(found.value)


def test_a_full_disk_refuses_writes_with_a_reason_and_loses_nothing(site: tuple[Site, bool]) -> None:
    where, mounted = site
    with where.running() as server, server.client() as client:
        run = client.runs.create("p", name="before", config={"a": 1})
        client.runs.append_history(run.id, [{"_step": n, "loss": n / 2} for n in range(20)], offset=0)
        client.files.upload(run.id, "kept.bin", b"k" * 100_000)
        full = Full(server, mounted)
        full.take()
        acknowledged = fill(client)
        assert_clear(refused(lambda: client.runs.create("p", name="too much", notes="x" * 900_000)))
        assert_clear(refused(lambda: client.files.upload(run.id, "more.bin", b"m" * 20_000_000)))
        assert_clear(refused(lambda: client.runs.append_history(run.id, big_rows(), offset=20)))
        assert_readable(client, run.id)
        assert server.answers("/healthz")
        assert server.answers("/readyz")
        full.give_back()
        after = client.runs.create("p", name="after", notes="x" * 900_000)
        client.files.upload(run.id, "more.bin", b"m" * 3_000_000)
        client.runs.append_history(run.id, big_rows(), offset=20)
        client.runs.finish(run.id)
        wait_for_jobs(client)
        names = {one.name for one in client.runs.list("p", limit=1_000)}
        assert names == {"before", "after", *acknowledged}
        client.runs.trash(after.id, on_running="stop")
        client.runs.purge(after.id)
        wait_for_jobs(client)
        assert client.runs.count_rows(run.id) == 20 + len(big_rows())
        assert client.files.read(run.id, "more.bin") == b"m" * 3_000_000
        assert client.audit.verify().intact
        if full.mounted:
            assert not (where.data / "ballast").exists()
    where.assert_sound()


def fill(client: Labkeep) -> list[str]:
    """Write until it is refused; the names of the runs that were acknowledged."""
    names: list[str] = []
    for number in range(200):
        try:
            client.runs.create("p", name=f"filler-{number}", notes="x" * 200_000)
        except Unavailable as error:
            assert_clear(str(error))
            return names
        names.append(f"filler-{number}")
    raise AssertionError("the disk does not get full")


def big_rows() -> list[dict[str, object]]:
    return [{"_step": n, "text": os.urandom(1).hex() + str(n) * 300} for n in range(20, 3_020)]


def assert_clear(message: str) -> None:
    """Whoever reads it knows that the disk is the matter, and that nothing of the request is there."""
    assert "disk" in message
    assert "nothing of this" in message


def assert_readable(client: Labkeep, run_id: str) -> None:
    assert client.runs.get(run_id).config == {"a": 1}
    assert len(client.runs.history(run_id)) == 20
    assert client.files.read(run_id, "kept.bin") == b"k" * 100_000
    assert [run.name for run in client.runs.list("p", q='name = "before"')] == ["before"]

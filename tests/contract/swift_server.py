"""OpenStack Swift with its S3 API on loopback: the real object store that the blob contract runs against.

One proxy, account, container and object server each (one replica, one zone, no root, no memcached), started
as subprocesses of this Python from a folder that the caller owns and removes. It needs the packages ``swift``
and ``boto3`` and a folder whose filesystem keeps user extended attributes (ext4, xfs, btrfs, tmpfs since
Linux 6.6); nothing of the operating system beside that.

    with SwiftServer(folder) as server:
        server.create_bucket("blobs")
        open_blobs("s3://blobs/prefix", **server.options())

Run as a program it serves until interrupted and prints the settings: ``python tests/contract/swift_server.py``.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import boto3

ACCESS_KEY = "test:tester"  # tempauth's spelling: account:user
SECRET_KEY = "testing"
REGION = "us-east-1"
START_TIMEOUT_S = 120.0
STORAGE_SERVERS = ("account", "container", "object")
MODULES = {"account": "account", "container": "container", "object": "obj", "proxy": "proxy"}

SWIFT_CONF = """\
[swift-hash]
swift_hash_path_suffix = labkeep
swift_hash_path_prefix = labkeep

[storage-policy:0]
name = default
default = yes
"""

DEFAULTS = """\
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
swift_dir = {folder}
devices = {folder}/devices
mount_check = false
disable_fallocate = true
user = {user}
workers = 0
log_level = WARNING
log_address = {folder}/no-syslog
"""

STORAGE_CONF = """
[pipeline:main]
pipeline = {kind}-server

[app:{kind}-server]
use = egg:swift#{kind}
"""

FILTERS = ("catch_errors", "gatekeeper", "healthcheck", "s3api", "tempauth", "bulk", "copy", "slo", "dlo", "symlink")
FILTER_SETTINGS = {
    "s3api": f"location = {REGION}\nmax_bucket_listing = 10",  # so that short listings have pages already
    "tempauth": f"user_{ACCESS_KEY.replace(':', '_')} = {SECRET_KEY} .admin",
}

PROXY_CONF = f"""
[pipeline:main]
pipeline = {" ".join(FILTERS)} proxy-server

[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
error_suppression_limit = 1000000
""" + "".join(f"\n[filter:{name}]\nuse = egg:swift#{name}\n{FILTER_SETTINGS.get(name, '')}\n" for name in FILTERS)

BUILD_RINGS = """\
import sys
from swift.common.ring import RingBuilder

for ring in sys.argv[1:]:
    kind, port = ring.split("=")
    builder = RingBuilder(part_power=4, replicas=1, min_part_hours=1)
    builder.add_dev({"region": 1, "zone": 1, "ip": "127.0.0.1", "port": int(port), "device": "disk", "weight": 1})
    builder.rebalance()
    builder.get_ring().save(f"{kind}.ring.gz")
"""


class SwiftServer:
    """Four Swift servers under ``folder``; a context manager, and ``start``/``stop`` for each of them alone."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ports: dict[str, int] = {}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._ports['proxy']}"

    def options(self) -> dict[str, Any]:
        """What ``open_blobs("s3://…")`` needs to reach this server."""
        return {
            "endpoint": self.endpoint,
            "access_key_id": ACCESS_KEY,
            "secret_access_key": SECRET_KEY,
            "region": REGION,
        }

    def create_bucket(self, name: str) -> None:
        self.client().create_bucket(Bucket=name)

    def client(self) -> Any:
        """A boto3 S3 client: for what the product itself never does (buckets, looking behind its back)."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            region_name=REGION,
        )

    def __enter__(self) -> SwiftServer:
        _require_extended_attributes(self._folder)
        try:
            self._start_all()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def _start_all(self) -> None:
        self._ports = dict(zip(MODULES, free_ports(len(MODULES)), strict=True))
        self._write_configuration()
        for kind in MODULES:
            self.start(kind, wait=False)
        for kind in MODULES:
            self._wait_until_listening(kind)

    def start(self, kind: str, *, wait: bool = True) -> None:
        """Start one of account, container, object, proxy."""
        with (self._folder / f"{kind}.log").open("ab") as log:
            self._processes[kind] = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", f"swift.{MODULES[kind]}.server", f"{kind}.conf", "-v"],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        if wait:
            self._wait_until_listening(kind)

    def stop(self, *kinds: str) -> None:
        """Stop the named servers, or all of them; what they stored stays for the next ``start``."""
        stopped = [self._processes.pop(kind) for kind in kinds or tuple(self._processes)]
        for process in stopped:
            process.kill()
        for process in stopped:
            process.wait()

    def _wait_until_listening(self, kind: str) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not _accepts(self._ports[kind]):
            if self._processes[kind].poll() is not None or time.monotonic() > deadline:
                log = (self._folder / f"{kind}.log").read_text(errors="replace")
                raise RuntimeError(f"Swift's {kind} server did not start:\n{log[-4000:]}")
            time.sleep(0.05)

    def _write_configuration(self) -> None:
        (self._folder / "devices" / "disk").mkdir(parents=True, exist_ok=True)
        (self._folder / "swift.conf").write_text(SWIFT_CONF)
        user = pwd.getpwuid(os.getuid()).pw_name
        for kind, port in self._ports.items():
            defaults = DEFAULTS.format(port=port, folder=self._folder, user=user)
            body = PROXY_CONF if kind == "proxy" else STORAGE_CONF.format(kind=kind)
            (self._folder / f"{kind}.conf").write_text(defaults + body)
        self._build_rings()

    def _build_rings(self) -> None:
        """In a process of its own: importing Swift patches and warns."""
        rings = [f"{kind}={self._ports[kind]}" for kind in STORAGE_SERVERS]
        command = [sys.executable, "-W", "ignore", "-c", BUILD_RINGS, *rings]
        done = subprocess.run(command, cwd=self._folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"Swift's rings could not be built: {done.stderr}")


def free_ports(count: int) -> Iterator[int]:
    """``count`` different ports of 127.0.0.1 that nothing listens on just now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return iter(ports)


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _require_extended_attributes(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.NamedTemporaryFile(dir=folder) as probe:
            os.setxattr(probe.name, "user.swift.probe", b"1")
    except OSError as error:
        raise RuntimeError(
            f"{folder}: no user extended attributes here ({error.strerror}); set TMPDIR to a folder that has them"
        ) from error


def main() -> None:
    """Serve from a temporary folder until interrupted."""
    with tempfile.TemporaryDirectory() as folder, SwiftServer(Path(folder)) as server:
        server.create_bucket("labkeep")
        print(f"s3://labkeep at {server.endpoint}, key {ACCESS_KEY}, secret {SECRET_KEY}, region {REGION}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()

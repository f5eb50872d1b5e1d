"""A small server that keeps its promises: the part of the native API that tracking needs, in memory, with faults on demand.

It answers what the real one answers; what it does not know is 404. It is an ASGI application, and serves itself over
HTTP on a port of the loopback, from which it can go away and to which it can come back.
"""

from __future__ import annotations

import hashlib
import json
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import uvicorn

from labkeep.core.columns import decode, encode_rows

NOW = "2026-11-01T12:00:00Z"
ORGANIZATION = "00000000-0000-7000-8000-000000000001"


@dataclass
class Seen:
    """One request as it came."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Fault:
    """What to answer instead of the truth, ``times`` times; ``after`` does the work first and then loses the answer."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: dict[str, Any] | None = None
    times: int = 1
    only: str = ""
    after: bool = False


class Refusal(Exception):
    def __init__(self, status: int, code: str, message: str, **details: Any) -> None:
        super().__init__(message)
        self.status = status
        self.body = {
            "code": code,
            "message": message,
            "details": details,
            "retry": status in (429, 503),
            "incident": "",
        }


class FakeServer:
    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.faults: deque[Fault] = deque()
        self.runs: dict[str, dict[str, Any]] = {}
        self.streams: dict[tuple[str, str], dict[int, dict[str, Any]]] = {}
        self.blobs: dict[str, bytes] = {}
        self.files: dict[tuple[str, str], bytes] = {}
        self.artifacts: list[dict[str, Any]] = []
        self.gone: set[str] = set()
        self.stopped: set[str] = set()
        self.key = "lk-test"
        self.delay_s = 0.0
        self.validate: Callable[[dict[str, Any]], None] = lambda row: None
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self.port = _free_port()

    # --- over HTTP

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> FakeServer:
        config = uvicorn.Config(
            self.app, host="127.0.0.1", port=self.port, log_level="critical", lifespan="off", interface="asgi3"
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        until = time.monotonic() + 10
        while not self._server.started:
            assert time.monotonic() < until, "the fake server does not start"
            time.sleep(0.005)
        return self

    def stop(self) -> None:
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._server.force_exit = True
            self._thread.join(10)
            self._server = None

    # --- what is in it

    def rows(self, run_id: str, stream: str = "history") -> list[dict[str, Any]]:
        """Rows in order, without timestamps."""
        stored = self.streams.get((run_id, stream), {})
        assert sorted(stored) == list(range(len(stored))), f"rows are missing: {sorted(stored)[:20]} …"
        return [{k: v for k, v in stored[n].items() if k != "_timestamp"} for n in sorted(stored)]

    def asked(self, method: str, ending: str = "") -> list[Seen]:
        return [seen for seen in self.seen if seen.method == method and seen.path.endswith(ending)]

    # --- the application

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        seen = Seen(scope["method"], scope["path"], parse_qs(scope["query_string"].decode()), headers, body)
        self.seen.append(seen)
        if self.delay_s:
            time.sleep(self.delay_s)
        status, extra, content = self._answer(seen)
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        kind = "application/octet-stream" if isinstance(content, bytes) else "application/json"
        sent = {"content-type": kind, "content-length": str(len(raw)), **extra}
        await send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [(k.encode(), v.encode()) for k, v in sent.items()],
            }
        )
        await send({"type": "http.response.body", "body": raw})

    def _answer(self, seen: Seen) -> tuple[int, dict[str, str], Any]:
        fault = self.faults[0] if self.faults and self.faults[0].only in seen.path else None
        if fault is not None:
            fault.times -= 1
            if fault.times <= 0:
                self.faults.popleft()
            if fault.after:
                self._truth(seen)
            return fault.status, fault.headers, fault.body or b"out of order"
        return self._truth(seen)

    def _truth(self, seen: Seen) -> tuple[int, dict[str, str], Any]:
        try:
            if seen.headers.get("authorization") != f"Bearer {self.key}":
                raise Refusal(401, "unauthenticated", "this key is unknown")
            return self._route(seen)
        except Refusal as refusal:
            return refusal.status, {}, refusal.body

    def _route(self, seen: Seen) -> tuple[int, dict[str, str], Any]:
        parts = seen.path.removeprefix("/api/v1/").split("/")
        name = f"_{seen.method.lower()}_{parts[0]}" + (f"_{parts[2]}" if len(parts) > 2 else "")
        handler = getattr(self, name, None)
        if handler is None:
            raise Refusal(404, "not_found", f"no such path: {seen.method} {seen.path}")
        found = handler(seen, parts[1] if len(parts) > 1 else "")
        return found if isinstance(found, tuple) else (200, {}, found)

    def _run(self, id: str) -> dict[str, Any]:
        if id in self.gone:
            raise Refusal(410, "gone", f"run {id} was trashed by ada", by="ada", deletion_id="d-1")
        if id not in self.runs:
            raise Refusal(404, "not_found", f"run {id} not found")
        return self.runs[id]

    def _get_me(self, seen: Seen, id: str) -> Any:
        return {
            "user": "ada",
            "role": "owner",
            "agent": False,
            "key_id": "k",
            "workspace_id": "w",
            "workspace": "default",
            "organization_id": ORGANIZATION,
            "organization": "lab",
        }

    def _get_echo(self, seen: Seen, id: str) -> Any:
        return {"method": seen.method, "query": seen.query, "headers": seen.headers, "size": len(seen.body)}

    _put_echo = _post_echo = _get_echo

    def _get_bytes(self, seen: Seen, id: str) -> Any:
        return b"x" * int(id)

    def _post_runs(self, seen: Seen, id: str) -> Any:
        asked = seen.json
        if asked.get("id") in self.gone:
            self._run(asked["id"])
        known = self.runs.get(asked.get("id"))
        if known is None:
            known = self.runs[asked["id"]] = {
                "organization_id": ORGANIZATION,
                "created_at": NOW,
                "updated_at": NOW,
                "kind": "run",
                "workspace_id": "w",
                "parent_id": "p",
                "project_id": "p",
                "name": f"run-{asked['id'][-6:]}",
                "status": "running",
                **{k: v for k, v in asked.items() if k != "project"},
                "extra": {"project": asked["project"]},
            }
        return 201, {}, known

    def _get_runs(self, seen: Seen, id: str) -> Any:
        if id:
            return self._run(id)
        wanted = [r for r in self.runs.values() if seen.query.get("handle", [r.get("handle")])[0] == r.get("handle")]
        start = int(seen.query.get("cursor", ["0"])[0])
        size = int(seen.query.get("limit", ["100"])[0])
        following = str(start + size) if start + size < len(wanted) else None
        return {"items": wanted[start : start + size], "next": following}

    def _patch_runs(self, seen: Seen, id: str) -> Any:
        run, fields = self._run(id), seen.json
        for space in ("config", "summary"):
            run[space] = {**run.get(space, {}), **fields.pop(space, {})}
        run["tags"] = [*run.get("tags", []), *fields.pop("add_tags", [])]
        run.update(fields)
        return run

    def _post_runs_finish(self, seen: Seen, id: str) -> Any:
        run, fields = self._run(id), seen.json
        run["summary"] = {**run.get("summary", {}), **fields.pop("summary", {})}
        run.update(fields)
        return run

    def _post_runs_heartbeat(self, seen: Seen, id: str) -> Any:
        return {"status": self._run(id)["status"], "stop": id in self.stopped}

    def _post_runs_history(self, seen: Seen, id: str) -> Any:
        self._run(id)
        stored = self.streams.setdefault((id, seen.query["stream"][0]), {})
        rows = list(decode(seen.body).rows())
        for row in rows:
            self.validate(row)
        start = int(seen.query["offset"][0]) if "offset" in seen.query else len(stored)
        assert start <= len(stored), f"a gap: offset {start} after {len(stored)} rows"
        stored.update({start + n: row for n, row in enumerate(rows)})
        return {"rows": len(stored), "stop": id in self.stopped}

    def _get_runs_history(self, seen: Seen, id: str) -> Any:
        self._run(id)
        stored = self.streams.get((id, seen.query["stream"][0]), {})
        first = int(seen.query.get("offset", ["0"])[0])
        last = first + int(seen.query.get("limit", [str(len(stored))])[0])
        found = [stored[n] for n in sorted(stored)][first:last]
        keys = seen.query.get("keys")
        batch = encode_rows(
            [
                (
                    r["_step"],
                    r.get("_timestamp"),
                    {k: v for k, v in r.items() if k[0] != "_" and (not keys or k in keys)},
                )
                for r in found
            ]
        )
        following = {"labkeep-next-offset": str(last)} if last < len(stored) else {}
        return 200, {"labkeep-total": str(len(stored)), **following}, batch

    def _get_runs_series(self, seen: Seen, id: str) -> Any:
        stored = self.streams.get((id, seen.query["stream"][0]), {})
        keys = {key for row in stored.values() for key in row if key[0] != "_"}
        last = max((row["_step"] for row in stored.values()), default=None)
        return {
            "items": [
                {"stream": "history", "key": key, "count": len(stored), "last_step": last} for key in sorted(keys)
            ],
            "next": None,
        }

    def _head_blobs(self, seen: Seen, id: str) -> Any:
        if id not in self.blobs:
            raise Refusal(404, "not_found", "no such blob")
        return {}

    def _put_blobs(self, seen: Seen, id: str) -> Any:
        digest = f"sha256:{hashlib.sha256(seen.body).hexdigest()}"
        if seen.headers.get("labkeep-digest", digest) != digest:
            raise Refusal(422, "invalid", "the bytes do not have that digest")
        self.blobs[digest] = seen.body
        return {"digest": digest, "size": len(seen.body)}

    def _post_artifacts(self, seen: Seen, id: str) -> Any:
        asked = seen.json
        for entry in asked["files"]:
            if entry["digest"].startswith("sha256:") and entry["digest"] not in self.blobs:
                raise Refusal(422, "invalid", f"blob {entry['digest']} was not uploaded")
        number = sum(made["name"] == asked["name"] for made in self.artifacts)
        self.artifacts.append(asked)
        return {
            "id": f"00000000-0000-7000-8000-0000000a{len(self.artifacts):04d}",
            "organization_id": ORGANIZATION,
            "created_at": NOW,
            "updated_at": NOW,
            "kind": "artifact_version",
            "workspace_id": "w",
            "parent_id": "a",
            "name": f"v{number}",
            "type": asked["type"],
            "number": number,
            "digest": "sha256:" + "0" * 64,
            "aliases": ["latest", *asked.get("aliases", [])],
        }

    def _put_files(self, seen: Seen, id: str) -> Any:
        self._run(id)
        path = seen.query["path"][0]
        self.files[id, path] = seen.body
        return self._file(id, path)

    def _get_files(self, seen: Seen, id: str) -> Any:
        return {"items": [self._file(owner, path) for owner, path in sorted(self.files) if owner == id], "next": None}

    def _get_files_content(self, seen: Seen, id: str) -> Any:
        return self.files[id, seen.query["path"][0]]

    def _file(self, id: str, path: str) -> dict[str, Any]:
        content = self.files[id, path]
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        return {"owner_id": id, "path": path, "digest": digest, "size": len(content), "created_at": NOW}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port

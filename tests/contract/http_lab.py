"""A live server with keys of every kind, raw requests to it, and objects of every kind, for tests over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from labkeep import Labkeep
from labkeep.api.routes import PREFIX
from tests.unit.client.live_server import Live, serving

ROLES = ("viewer", "editor", "maintainer", "owner")


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Ask(NamedTuple):
    """One request: values for the path's parameters, and what else there is to say. ``ids`` are those that it names."""

    path: Mapping[str, str] = {}
    query: Mapping[str, Any] = {}
    body: Any = None
    raw: bytes | None = None
    headers: Mapping[str, str] = {}


class Lab:
    """A server, its owner's client, and a stranger's: the owner of another organization."""

    def __init__(self, live: Live) -> None:
        self.live, self.owner = live, live.client()
        self.owner.workspaces.create("elsewhere", organization="strangers")
        secret = self.owner.keys.create(
            "stranger", role="owner", organization="strangers", workspace="elsewhere"
        ).secret
        self.stranger = Labkeep(secret, live.url)
        self.keys = {role: self.owner.keys.create(role, role=role).secret for role in ROLES}
        self.keys["agent"] = self.owner.keys.create("robot", role="owner", agent=True).secret
        self.keys["stranger"] = secret
        self._connection = HTTPConnection(live.url.removeprefix("http://"), timeout=60)
        self._numbers = count(1)

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] = {},
        *,
        key: str | None = None,
    ) -> Answer:
        """One request with ``key`` (the owner's unless said otherwise; empty for none)."""
        secret = self.live.key if key is None else key
        own = {"Authorization": f"Bearer {secret}"} if secret else {}
        try:
            self._connection.request(method, path, body, {**own, **headers})
            response = self._connection.getresponse()
            data = response.read()
        except Exception:
            self._connection.close()
            raise
        if response.will_close:
            self._connection.close()
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, data)

    def ask(self, method: str, path: str, ask: Ask, *, key: str | None = None, prefix: str = PREFIX) -> Answer:
        """A request to a row of a route table."""
        for name, value in ask.path.items():
            path = path.replace("{" + name + "}", quote(value, safe=""))
        query = f"?{urlencode(ask.query, doseq=True)}" if ask.query else ""
        body = ask.raw if ask.body is None else json.dumps(ask.body).encode()
        return self.request(method, prefix + path + query, body, ask.headers, key=key)

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    # --- objects, each new

    def name(self, word: str = "thing") -> str:
        return f"{word}-{next(self._numbers)}"

    def project(self) -> str:
        return self.owner.projects.create(self.name("project")).id

    def run(self, status: str = "finished") -> str:
        return self.owner.runs.create("lab", name=self.name("run"), status=status).id

    def document(self) -> str:
        return self.owner.documents.create("lab", "prompt", self.name("document"), body={"a": 1}).id

    def experiment(self, *, running: bool = False) -> str:
        id = str(self.owner.experiments.create(name=self.name("experiment"), variants=[{"name": "a"}])["id"])
        if running:
            self.owner.experiments.start(id)
        return id

    def version(self) -> Any:
        digest = self.owner.blobs.upload(self.name("content").encode())
        files = [{"path": "a.txt", "digest": digest}]
        return self.owner.artifacts.create("lab", self.name("artifact"), files=files)

    def file(self) -> str:
        """A run with the file ``a.txt``."""
        id = self.run()
        self.owner.files.upload(id, "a.txt", b"content")
        return id

    def digest(self) -> str:
        return self.owner.blobs.upload(self.name("blob").encode())

    def archived(self) -> str:
        id = self.run()
        self.owner.runs.archive(id)
        return id

    def trashed(self) -> str:
        id = self.run()
        self.owner.runs.trash(id)
        return id

    def deletion(self) -> str:
        return self.owner.runs.trash(self.run()).deletion_id or ""

    def job(self) -> str:
        """One that is done."""
        return self.owner.jobs.wait(self.owner.deletions.purge(self.deletion()).job_id or "", every_s=0.01).id

    def environment(self) -> str:
        name = self.name("environment")
        self.owner.environments.bind("lab", name, self.document())
        return name

    def link(self) -> str:
        return self.owner.links.create(self.run(), self.document(), "used").id

    def key_of(self, user: str = "somebody") -> str:
        return self.owner.keys.create(user, role="viewer").id

    def counts(self) -> dict[str, int]:
        """How much of everything there is: nothing that is refused may change it."""
        held = {one.id: one.items + one.trashed_items for one in self.owner.usage.list(by="kind")}
        newest = self.owner.audit.list(limit=1).items
        small = {"keys": self.owner.keys.list(limit=1_000), "members": self.owner.members.list(limit=1_000)}
        return held | {"audit": newest[0].seq} | {name: len(pages.items) for name, pages in small.items()}


@contextmanager
def lab(folder: Path) -> Iterator[Lab]:
    """A server over ``folder`` until the end of the block."""
    with serving(folder) as live:
        opened = Lab(live)
        opened.owner.projects.create("lab")
        yield opened
        opened.close()
        opened.owner.close()
        opened.stranger.close()

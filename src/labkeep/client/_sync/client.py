# Generated from labkeep/client/_async/client.py by scripts/unasync.py: change that file instead.
"""The client: one server, one key, and everything that can be asked of it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from labkeep.client import requests
from labkeep.client._sync.accounts import Keys, Members, Workspaces
from labkeep.client._sync.artifacts import Artifacts, Blobs, Files
from labkeep.client._sync.audits import Audit
from labkeep.client._sync.connection import Connection
from labkeep.client._sync.documents import Documents
from labkeep.client._sync.erasures import Erasures
from labkeep.client._sync.experiments import Experiments
from labkeep.client._sync.holds import Holds
from labkeep.client._sync.items import AnyItems
from labkeep.client._sync.jobs import Jobs
from labkeep.client._sync.plans import Plans
from labkeep.client._sync.policies import Policies
from labkeep.client._sync.projects import Environments, Links, Projects
from labkeep.client._sync.receipts import Receipts
from labkeep.client._sync.records import Deletions, Trash, Usages
from labkeep.client._sync.removals import Removals
from labkeep.client._sync.rows import Rows
from labkeep.client._sync.rules import Rules
from labkeep.client._sync.runs import Runs
from labkeep.client._sync.transfers import Transfers
from labkeep.client._sync.webhooks import Webhooks
from labkeep.client.http import HttpTransport
from labkeep.client.local import LocalTransport, open_folder
from labkeep.client.proposal import Proposal, apply_body, plan_body
from labkeep.client.retries import Retries
from labkeep.client.target import Target, resolve
from labkeep.client.transport import Transport
from labkeep.core.commands import Me, Outcome, Plan

TIMEOUT_S = 60.0
MAX_RETRIES = 3


class Labkeep:
    """A Labkeep server.

    ``api_key`` and ``base_url`` win over ``LABKEEP_API_KEY`` and ``LABKEEP_URL``, and those over what ``labkeep login``
    saved. ``workspace`` (id or name) is the key's own unless said otherwise. ``timeout`` is seconds without a byte;
    what fails for a passing reason is tried ``max_retries`` times more, and a write is done once however often it is
    sent. Every method raises a class of `labkeep.errors`. Values are frozen Structs of `labkeep.core.entities`; times
    are aware UTC. Closing gives back connections; leaving a ``with`` block does it too.
    """

    def __init__(
        self,
        api_key: str | None = None,
        base_url: str | None = None,
        *,
        workspace: str | None = None,
        timeout: float = TIMEOUT_S,
        max_retries: int = MAX_RETRIES,
        transport: Transport | None = None,
    ) -> None:
        target = resolve(base_url, api_key, workspace)
        carrier = transport or HttpTransport(target.url)
        self._attach(Connection(carrier, target, retries=Retries(max_retries), timeout_s=timeout))

    @classmethod
    def local(cls, dir: str | os.PathLike[str], *, workspace: str | None = None, timeout: float = TIMEOUT_S) -> Self:
        """A client of a folder instead of a server: the same application runs in this process.

        The folder is made when missing. Unavailable when another process has it open, or when the server's packages are
        not installed.
        """
        app = open_folder(dir)
        target = Target(app.url, app.key, workspace or "")
        found = cls.__new__(cls)
        found._attach(Connection(LocalTransport(app), target, retries=Retries(0), timeout_s=timeout))
        return found

    def _attach(self, connection: Connection) -> None:
        self.connection = connection
        self.workspaces = Workspaces(connection)
        self.keys = Keys(connection)
        self.members = Members(connection)
        self.projects = Projects(connection)
        self.runs = Runs(connection)
        self.rows = Rows(connection)
        self.documents = Documents(connection)
        self.experiments = Experiments(connection)
        self.artifacts = Artifacts(connection)
        self.files = Files(connection)
        self.blobs = Blobs(connection)
        self.environments = Environments(connection)
        self.links = Links(connection)
        self.items = AnyItems(connection)
        self.deletions = Deletions(connection)
        self.plans = Plans(connection)
        self.trash = Trash(connection)
        self.holds = Holds(connection)
        self.rules = Rules(connection)
        self.receipts = Receipts(connection)
        self.policies = Policies(connection)
        self.erasures = Erasures(connection)
        self.removals = Removals(connection)
        self.audit = Audit(connection)
        self.jobs = Jobs(connection)
        self.usage = Usages(connection)
        self.webhooks = Webhooks(connection)
        self.transfers = Transfers(connection)

    @property
    def base_url(self) -> str:
        """The server's address, or ``file://…`` of a local folder."""
        return self.connection.target.url

    def me(self) -> Me:
        """Who this key is: user, role, workspace, organization."""
        return self.connection.read(Me, requests.path("/me"))

    def plan(
        self,
        verb: str,
        *,
        ids: Sequence[str] | None = None,
        q: str | None = None,
        project: str | None = None,
        kind: str | None = None,
        deletion_id: str | None = None,
        on_running: str | None = None,
        force: bool | None = None,
    ) -> Proposal:
        """What ``verb`` (archive, unarchive, trash, restore, purge) would do to a selection. Nothing happens yet.

        The selection is ``ids``, or all objects of a ``kind`` (run unless said otherwise) that match ``q`` and are in
        ``project``. Give the answer to `apply`, which does it only if the world is still as it was planned.
        """
        body = plan_body(verb, requests.given(locals(), "verb"))
        plan = self.connection.write(Plan, "POST", requests.path("/plans"), body)
        return Proposal.of(plan, body)

    def apply(
        self,
        what: Proposal | str,
        *,
        reason: str | None = None,
        ticket: str | None = None,
        ids: Sequence[str] | None = None,
        q: str | None = None,
        project: str | None = None,
        kind: str | None = None,
        deletion_id: str | None = None,
        on_running: str | None = None,
        force: bool | None = None,
        plan_hash: str | None = None,
        background: bool | None = None,
        rate: float | None = None,
        archive: str | None = None,
    ) -> Outcome:
        """Do what a plan says, or ``verb`` to a selection as in `plan`.

        Raises Stale, with the new plan in ``details``, when the world moved since the plan; Conflict with the blockers
        when something must stay. Purging goes on in the background, and so does what is large, unless ``background``
        says otherwise: ``job_id`` of the answer, for ``jobs.wait``. ``rate`` limits such a job to so many objects a second.
        ``archive`` is the digest that an export answered, for the record.
        """
        body = apply_body(what, requests.given(locals(), "what"))
        return self.connection.write(Outcome, "POST", requests.path("/apply"), body)

    def undo(self, token: str, *, reason: str | None = None) -> Outcome:
        """Take back what an answer's ``undo`` names: a trash, an archive, an unarchive or a restore."""
        body = requests.given({"token": token, "reason": reason})
        return self.connection.write(Outcome, "POST", requests.path("/undo"), body)

    def request(self, method: str, path: str, *, body: Mapping[str, Any] | None = None, **query: Any) -> Any:
        """Any endpoint, as parsed JSON: ``client.request("GET", "/api/v1/runs", limit=3)``."""
        if method == "GET":
            return self.connection.read(Any, path, **query)
        return self.connection.write(Any, method, path + requests.query(query), body)

    def close(self) -> None:
        """Give back connections and threads; a local folder is closed when its last client is."""
        self.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

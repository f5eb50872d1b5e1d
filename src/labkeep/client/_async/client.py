"""The client: one server, one key, and everything that can be asked of it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from labkeep.client import requests
from labkeep.client._async.accounts import AsyncKeys, AsyncMembers, AsyncWorkspaces
from labkeep.client._async.artifacts import AsyncArtifacts, AsyncBlobs, AsyncFiles
from labkeep.client._async.audits import AsyncAudit
from labkeep.client._async.connection import AsyncConnection
from labkeep.client._async.documents import AsyncDocuments
from labkeep.client._async.erasures import AsyncErasures
from labkeep.client._async.experiments import AsyncExperiments
from labkeep.client._async.holds import AsyncHolds
from labkeep.client._async.items import AsyncAnyItems
from labkeep.client._async.jobs import AsyncJobs
from labkeep.client._async.plans import AsyncPlans
from labkeep.client._async.policies import AsyncPolicies
from labkeep.client._async.projects import AsyncEnvironments, AsyncLinks, AsyncProjects
from labkeep.client._async.receipts import AsyncReceipts
from labkeep.client._async.records import AsyncDeletions, AsyncTrash, AsyncUsages
from labkeep.client._async.removals import AsyncRemovals
from labkeep.client._async.rows import AsyncRows
from labkeep.client._async.rules import AsyncRules
from labkeep.client._async.runs import AsyncRuns
from labkeep.client._async.transfers import AsyncTransfers
from labkeep.client._async.webhooks import AsyncWebhooks
from labkeep.client.http_async import AsyncHttpTransport
from labkeep.client.local import AsyncLocalTransport, open_folder
from labkeep.client.proposal import Proposal, apply_body, plan_body
from labkeep.client.retries import Retries
from labkeep.client.target import Target, resolve
from labkeep.client.transport import AsyncTransport
from labkeep.core.commands import Me, Outcome, Plan

TIMEOUT_S = 60.0
MAX_RETRIES = 3


class AsyncLabkeep:
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
        transport: AsyncTransport | None = None,
    ) -> None:
        target = resolve(base_url, api_key, workspace)
        carrier = transport or AsyncHttpTransport(target.url)
        self._attach(AsyncConnection(carrier, target, retries=Retries(max_retries), timeout_s=timeout))

    @classmethod
    def local(cls, dir: str | os.PathLike[str], *, workspace: str | None = None, timeout: float = TIMEOUT_S) -> Self:
        """A client of a folder instead of a server: the same application runs in this process.

        The folder is made when missing. Unavailable when another process has it open, or when the server's packages are
        not installed.
        """
        app = open_folder(dir)
        target = Target(app.url, app.key, workspace or "")
        found = cls.__new__(cls)
        found._attach(AsyncConnection(AsyncLocalTransport(app), target, retries=Retries(0), timeout_s=timeout))
        return found

    def _attach(self, connection: AsyncConnection) -> None:
        self.connection = connection
        self.workspaces = AsyncWorkspaces(connection)
        self.keys = AsyncKeys(connection)
        self.members = AsyncMembers(connection)
        self.projects = AsyncProjects(connection)
        self.runs = AsyncRuns(connection)
        self.rows = AsyncRows(connection)
        self.documents = AsyncDocuments(connection)
        self.experiments = AsyncExperiments(connection)
        self.artifacts = AsyncArtifacts(connection)
        self.files = AsyncFiles(connection)
        self.blobs = AsyncBlobs(connection)
        self.environments = AsyncEnvironments(connection)
        self.links = AsyncLinks(connection)
        self.items = AsyncAnyItems(connection)
        self.deletions = AsyncDeletions(connection)
        self.plans = AsyncPlans(connection)
        self.trash = AsyncTrash(connection)
        self.holds = AsyncHolds(connection)
        self.rules = AsyncRules(connection)
        self.receipts = AsyncReceipts(connection)
        self.policies = AsyncPolicies(connection)
        self.erasures = AsyncErasures(connection)
        self.removals = AsyncRemovals(connection)
        self.audit = AsyncAudit(connection)
        self.jobs = AsyncJobs(connection)
        self.usage = AsyncUsages(connection)
        self.webhooks = AsyncWebhooks(connection)
        self.transfers = AsyncTransfers(connection)

    @property
    def base_url(self) -> str:
        """The server's address, or ``file://…`` of a local folder."""
        return self.connection.target.url

    async def me(self) -> Me:
        """Who this key is: user, role, workspace, organization."""
        return await self.connection.read(Me, requests.path("/me"))

    async def plan(
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
        plan = await self.connection.write(Plan, "POST", requests.path("/plans"), body)
        return Proposal.of(plan, body)

    async def apply(
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
        return await self.connection.write(Outcome, "POST", requests.path("/apply"), body)

    async def undo(self, token: str, *, reason: str | None = None) -> Outcome:
        """Take back what an answer's ``undo`` names: a trash, an archive, an unarchive or a restore."""
        body = requests.given({"token": token, "reason": reason})
        return await self.connection.write(Outcome, "POST", requests.path("/undo"), body)

    async def request(self, method: str, path: str, *, body: Mapping[str, Any] | None = None, **query: Any) -> Any:
        """Any endpoint, as parsed JSON: ``client.request("GET", "/api/v1/runs", limit=3)``."""
        if method == "GET":
            return await self.connection.read(Any, path, **query)
        return await self.connection.write(Any, method, path + requests.query(query), body)

    async def close(self) -> None:
        """Give back connections and threads; a local folder is closed when its last client is."""
        await self.connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

"""Everything that the native API offers, the client offers: every endpoint a method, every field a parameter."""

from __future__ import annotations

import inspect
import json
from operator import attrgetter
from typing import Any
from urllib.parse import parse_qs, unquote

import msgspec
import pytest

from labkeep import Labkeep
from labkeep.api.routes import ENDPOINTS, PREFIX
from labkeep.client._sync.connection import Connection
from labkeep.client.retries import Retries
from labkeep.client.target import Target
from labkeep.client.transport import Answer, Call
from labkeep.http.wire import Endpoint

ID = "00000000-0000-7000-8000-000000000007"

METHODS: dict[tuple[str, str], str] = {
    ("GET", "/me"): "me",
    ("GET", "/workspaces"): "workspaces.list",
    ("POST", "/workspaces"): "workspaces.create",
    ("GET", "/keys"): "keys.list",
    ("POST", "/keys"): "keys.create",
    ("POST", "/keys/{id}/resume"): "keys.resume",
    ("DELETE", "/keys/{id}"): "keys.revoke",
    ("GET", "/members"): "members.list",
    ("PUT", "/members/{user}"): "members.set",
    ("GET", "/projects"): "projects.list",
    ("POST", "/projects"): "projects.create",
    ("GET", "/projects/{id}"): "projects.get",
    ("PATCH", "/projects/{id}"): "projects.update",
    ("GET", "/runs"): "runs.list",
    ("POST", "/runs"): "runs.create",
    ("POST", "/runs/batch"): "runs.create_many",
    ("GET", "/runs/diff"): "runs.diff",
    ("GET", "/runs/{id}"): "runs.get",
    ("GET", "/receipts"): "receipts.list",
    ("GET", "/audit/export"): "audit.page",
    ("GET", "/audit/objects"): "audit.objects",
    ("GET", "/audit/checkpoints"): "audit.checkpoints",
    ("POST", "/audit/checkpoints"): "audit.checkpoint",
    ("GET", "/receipts/{id}"): "receipts.get",
    ("GET", "/deletions/{id}/receipt"): "receipts.of_deletion",
    ("GET", "/signing-keys"): "receipts.keys",
    ("POST", "/signing-keys/rotate"): "receipts.rotate_key",
    ("PATCH", "/runs/{id}"): "runs.update",
    ("POST", "/runs/{id}/finish"): "runs.finish",
    ("POST", "/runs/{id}/stop"): "runs.stop",
    ("POST", "/runs/{id}/fork"): "runs.fork",
    ("POST", "/runs/{id}/rewind"): "runs.rewind",
    ("POST", "/runs/{id}/heartbeat"): "runs.heartbeat",
    ("POST", "/rows/{id}"): "rows.write",
    ("GET", "/rows/{id}"): "rows.read",
    ("GET", "/rows/{id}/stats"): "rows.stats",
    ("GET", "/documents"): "documents.list",
    ("GET", "/projects/{id}/encryption"): "projects.encryption",
    ("POST", "/documents"): "documents.create",
    ("GET", "/documents/{id}"): "documents.get",
    ("PATCH", "/documents/{id}"): "documents.update",
    ("POST", "/documents/{id}/versions"): "documents.commit",
    ("GET", "/documents/{id}/versions"): "documents.versions",
    ("GET", "/documents/{id}/versions/latest"): "documents.get_version",
    ("GET", "/documents/{id}/versions/{number}"): "documents.get_version",
    ("GET", "/experiments"): "experiments.iterate",
    ("POST", "/experiments"): "experiments.create",
    ("GET", "/experiments/{id}"): "experiments.get",
    ("PATCH", "/experiments/{id}"): "experiments.update",
    ("POST", "/experiments/{id}/start"): "experiments.start",
    ("POST", "/experiments/{id}/stop"): "experiments.stop",
    ("POST", "/experiments/{id}/complete"): "experiments.complete",
    ("GET", "/experiments/{id}/results"): "experiments.get_results",
    ("GET", "/artifacts"): "artifacts.list",
    ("POST", "/artifacts"): "artifacts.create",
    ("GET", "/artifacts/resolve"): "artifacts.resolve",
    ("GET", "/artifacts/versions"): "artifacts.versions",
    ("GET", "/artifacts/versions/{id}"): "artifacts.get_version",
    ("POST", "/artifacts/versions/{id}/aliases"): "artifacts.set_aliases",
    ("GET", "/artifacts/{id}"): "artifacts.get",
    ("GET", "/files/{id}"): "files.list",
    ("GET", "/environments"): "environments.list",
    ("PUT", "/environments"): "environments.bind",
    ("GET", "/environments/{name}"): "environments.get",
    ("GET", "/links/{id}"): "links.list",
    ("POST", "/links"): "links.create",
    ("DELETE", "/links/{id}"): "links.remove",
    ("GET", "/plans"): "plans.list",
    ("GET", "/plans/{id}"): "plans.get",
    ("GET", "/plans/{id}/diff"): "plans.diff",
    ("POST", "/undo"): "undo",
    ("POST", "/plans"): "plan",
    ("POST", "/apply"): "apply",
    ("GET", "/deletions"): "deletions.list",
    ("GET", "/deletions/{id}"): "deletions.get",
    ("GET", "/deletions/{id}/members"): "deletions.members",
    ("POST", "/deletions/{id}/restore"): "deletions.restore",
    ("POST", "/deletions/{id}/purge"): "deletions.purge",
    ("GET", "/trash"): "trash.list",
    ("POST", "/items/{id}/archive"): "items.archive",
    ("POST", "/items/{id}/unarchive"): "items.unarchive",
    ("POST", "/items/{id}/trash"): "items.trash",
    ("POST", "/items/{id}/restore"): "items.restore",
    ("POST", "/items/{id}/purge"): "items.purge",
    ("PUT", "/items/{id}/lock"): "items.lock",
    ("GET", "/items/{id}"): "items.get",
    ("GET", "/runs/{id}/streams"): "transfers.streams",
    ("GET", "/rows/{id}/states"): "transfers.states",
    ("POST", "/imports"): "transfers.start",
    ("GET", "/imports/{id}"): "transfers.get",
    ("POST", "/imports/{id}/parts"): "transfers.add_part",
    ("POST", "/imports/{id}/finish"): "transfers.finish",
    ("DELETE", "/imports/{id}"): "transfers.give_up",
    ("GET", "/webhooks"): "webhooks.list",
    ("POST", "/webhooks"): "webhooks.create",
    ("GET", "/webhooks/{id}"): "webhooks.get",
    ("PATCH", "/webhooks/{id}"): "webhooks.update",
    ("DELETE", "/webhooks/{id}"): "webhooks.remove",
    ("POST", "/webhooks/{id}/secret"): "webhooks.rotate_secret",
    ("POST", "/webhooks/{id}/test"): "webhooks.test",
    ("GET", "/webhooks/{id}/deliveries"): "webhooks.deliveries",
    ("POST", "/webhooks/{id}/replay"): "webhooks.replay",
    ("GET", "/rules"): "rules.get",
    ("PATCH", "/rules/workspace"): "rules.set_workspace",
    ("PATCH", "/rules/organization"): "rules.set_organization",
    ("GET", "/holds"): "holds.list",
    ("POST", "/holds"): "holds.set",
    ("POST", "/holds/preview"): "holds.preview",
    ("GET", "/holds/{id}"): "holds.get",
    ("GET", "/holds/{id}/items"): "holds.items",
    ("POST", "/holds/{id}/lift"): "holds.lift",
    ("GET", "/policies"): "policies.list",
    ("POST", "/policies"): "policies.create",
    ("PUT", "/policies"): "policies.put",
    ("GET", "/policies/table"): "policies.table",
    ("POST", "/policies/preview"): "policies.preview_draft",
    ("GET", "/policies/reports/{id}"): "policies.report",
    ("GET", "/policies/{id}"): "policies.get",
    ("PATCH", "/policies/{id}"): "policies.update",
    ("DELETE", "/policies/{id}"): "policies.remove",
    ("GET", "/policies/{id}/preview"): "policies.preview",
    ("POST", "/policies/{id}/run"): "policies.run",
    ("GET", "/policies/{id}/reports"): "policies.reports",
    ("GET", "/erasures"): "erasures.list",
    ("POST", "/erasures"): "erasures.create",
    ("GET", "/erasures/{id}"): "erasures.get",
    ("POST", "/erasures/{id}/preview"): "erasures.preview",
    ("POST", "/erasures/{id}/run"): "erasures.run",
    ("POST", "/erasures/{id}/cancel"): "erasures.cancel",
    ("POST", "/removals/plan"): "removals.plan",
    ("POST", "/removals"): "removals.remove",
    ("GET", "/removals"): "removals.list",
    ("GET", "/runs/{id}/removals"): "removals.of_run",
    ("GET", "/removals/{id}"): "removals.get",
    ("POST", "/removals/{id}/restore"): "removals.restore",
    ("POST", "/removals/{id}/purge"): "removals.purge",
    ("GET", "/audit"): "audit.list",
    ("GET", "/audit/verify"): "audit.verify",
    ("GET", "/jobs"): "jobs.list",
    ("GET", "/jobs/{id}"): "jobs.get",
    ("GET", "/jobs/{id}/items"): "jobs.items",
    ("POST", "/jobs/{id}/pause"): "jobs.pause",
    ("POST", "/jobs/{id}/resume"): "jobs.resume",
    ("POST", "/jobs/{id}/cancel"): "jobs.cancel",
    ("PUT", "/jobs/{id}/rate"): "jobs.set_rate",
    ("GET", "/usage"): "usage.list",
}
"""What each endpoint is called in the client."""

SAMPLES: dict[str, Any] = {
    "q": 'name = "x"',
    "role": "viewer",
    "status": "finished",
    "limit": 3,
    "number": 2,
    "step": 7,
    "part": "row",
    "due_at": "2027-01-01T00:00:00Z",
    "upto": 3,
    "versions": True,
    "where": {"a": 1},
    "before": "2026-01-01T00:00:00Z",
    "parent": 1,
    "exit_code": 1,
    "daily_trash": 1,
    "as_of": 5,
    "if_version": 3,
    "agent": True,
    "exist_ok": True,
    "suffix": True,
    "force": True,
    "events": ["run.*"],
    "whole": ["run"],
    "enabled": True,
    "background": True,
    "rate": 5.0,
    "scope": "workspace",
    "show": "kept",
    "dry_run": True,
    "every_s": 3600,
    "at": "2027-01-01T00:00:00Z",
    "ascending": True,
    "on_running": "stop",
    "on_delete": "keep",
    "expires_at": "2027-01-01T00:00:00Z",
    "started_at": "2026-01-01T00:00:00Z",
    "finished_at": "2026-01-01T00:00:00Z",
    "since": "2026-01-01T00:00:00Z",
    "until": "2026-01-01T00:00:00Z",
    "after": 3,
    "archive": "sha256:" + "0" * 64,
    "remap": True,
    **{name: [] for name in ("objects", "document_versions", "file_entries", "row_states")},
    "names": {ID: "n"},
    "files": [{"path": "a", "digest": "sha256:" + "0" * 64, "size": 1}],
    "variants": [{"name": "a"}],
    "runs": [{"project": "p"}],
    "rows": [{"id": "a", "data": {}}],
    "what": "trash",
    "verb": "trash",
    **{name: ["t"] for name in ("tags", "add_tags", "remove_tags", "aliases", "add", "remove")},
    **{name: {"a": 1} for name in ("config", "summary", "metadata", "settings", "extra", "body", "rules")},
    **{name: [ID] for name in ("ids",)},
}
"""A value for each parameter that does not take just any text."""

UNTOLD = {"dialect"}
"""Fields that a client does not set: it is the native one."""

ELSEWHERE = {
    ("POST", "/apply"): {"verb", "selection"},
    ("POST", "/plans"): {"selection"},
    ("PUT", "/items/{id}/lock"): {"locked"},
    ("POST", "/items/{id}/archive"): {"on_running", "force"},
    ("POST", "/items/{id}/unarchive"): {"on_running", "force"},
    ("POST", "/items/{id}/restore"): {"on_running", "force", "plan_hash"},
    ("POST", "/items/{id}/purge"): {"on_running", "background", "rate"},
    ("GET", "/usage"): {"limit", "cursor"},
}
"""Fields that are said in another way, or that mean nothing for this verb."""


class Sent(Exception):
    """The request was recorded; there is no answer."""


class Recorder:
    def __init__(self) -> None:
        self.call: Call | None = None

    def send(self, call: Call) -> Answer:
        self.call = call
        raise Sent

    def close(self) -> None:
        pass


def sent_by(name: str) -> Call:
    """The request that a method sends when every parameter is given."""
    recorder = Recorder()
    client = Labkeep("lk-1", "http://lab")
    client._attach(Connection(recorder, Target("http://lab", "lk-1"), retries=Retries(0), timeout_s=1))
    method = attrgetter(name)(client)
    arguments = {parameter: SAMPLES.get(parameter, ID) for parameter in inspect.signature(method).parameters}
    with pytest.raises(Sent):
        list(method(**arguments))
    assert recorder.call is not None
    return recorder.call


def parameters(name: str) -> set[str]:
    names = set(inspect.signature(attrgetter(name)(Labkeep("lk-1", "http://lab"))).parameters)
    return names | ({"id"} if "experiment_id" in names else set())


def label(endpoint: Endpoint) -> str:
    return f"{endpoint.method} {endpoint.path}"


def test_every_endpoint_has_a_method() -> None:
    assert {(e.method, e.path) for e in ENDPOINTS} == METHODS.keys()


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=label)
def test_every_field_of_a_command_can_be_given(endpoint: Endpoint) -> None:
    fields = {field.name for field in msgspec.structs.fields(endpoint.command)}
    untold = UNTOLD | ELSEWHERE.get((endpoint.method, endpoint.path), set())
    assert fields - parameters(METHODS[endpoint.method, endpoint.path]) - untold == set()


@pytest.mark.parametrize("endpoint", [e for e in ENDPOINTS if not e.path.endswith("/latest")], ids=label)
def test_what_a_method_sends_is_what_the_endpoint_takes(endpoint: Endpoint) -> None:
    call = sent_by(METHODS[endpoint.method, endpoint.path])
    path, _, query = call.path.partition("?")
    assert call.method == endpoint.method
    values = {name: texts if name == "ids" else texts[0] for name, texts in parse_qs(query).items()}
    assert isinstance(call.body, bytes)
    values.update(json.loads(call.body or b"{}"))
    values.update(path_values(endpoint.path, path.removeprefix(PREFIX)))
    msgspec.convert(
        values, endpoint.command, strict=endpoint.method not in ("GET", "DELETE") and "{" not in endpoint.path
    )
    assert (call.method == "GET") != ("Idempotency-Key" in call.headers)


def path_values(template: str, path: str) -> dict[str, str]:
    parts = list(zip(template.split("/"), path.split("/"), strict=True))
    assert all(wanted == found for wanted, found in parts if not wanted.startswith("{"))
    return {wanted[1:-1]: unquote(found) for wanted, found in parts if wanted.startswith("{")}


def test_the_async_client_has_the_same_methods() -> None:
    from labkeep import AsyncLabkeep

    client = AsyncLabkeep("lk-1", "http://lab")
    for name in METHODS.values():
        assert (
            inspect.signature(attrgetter(name)(client)).parameters.keys()
            == inspect.signature(attrgetter(name)(Labkeep("lk-1", "http://lab"))).parameters.keys()
        )


def test_every_public_method_says_what_it_does() -> None:
    client = Labkeep("lk-1", "http://lab")
    for space in ("", *(name for name in vars(client) if name != "connection")):
        found = attrgetter(space)(client) if space else client
        methods = [(name, method) for name, method in inspect.getmembers(found, callable) if not name.startswith("_")]
        assert [f"{space}.{name}" for name, method in methods if not inspect.getdoc(method)] == []

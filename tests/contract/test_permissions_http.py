"""Who may do what, over HTTP: every route, every role, an agent, a stranger, and keys that are no keys.

The table says what each route needs; `labkeep.core.access` says who has that. A route without a row fails.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest

from labkeep.api.routes import ENDPOINTS
from labkeep.api.stream import DESCRIBED
from labkeep.core.access import AGENT_DENIED, PERMISSIONS, RANK
from labkeep.core.errors import Unauthenticated
from labkeep.core.lifecycle import Role
from labkeep.server import DIALECTS, load_dialect
from tests.contract.http_lab import ROLES, Ask, Lab, lab

ANYBODY = "anybody with a key"
DIGEST = "sha256:" + "0" * 64


class Row(NamedTuple):
    """What a route needs, and how to ask for it with everything in place. ``hidden`` is what a stranger gets."""

    permission: str
    ask: Callable[[Lab], Ask]
    hidden: int = 404
    first: str = ""
    """What is asked for before that, where a lesser role already fails."""


def at(make: Callable[[Lab], str], body: Any = None, **query: Any) -> Callable[[Lab], Ask]:
    """A request about one new object."""
    return lambda lab: Ask({"id": make(lab)}, query, body)


def plain(body: Any = None, **query: Any) -> Callable[[Lab], Ask]:
    """A request that names no object."""
    return lambda _lab: Ask({}, query, body)


TABLE: dict[tuple[str, str], Row] = {
    ("GET", "/me"): Row(ANYBODY, plain(), 200),
    ("GET", "/workspaces"): Row("workspace.read", plain(), 200),
    ("POST", "/workspaces"): Row("workspace.write", lambda lab: Ask(body={"name": lab.name("workspace")}), 201),
    ("GET", "/keys"): Row("key.read", plain(), 200),
    ("POST", "/keys"): Row("key.write", plain({"user": "new", "role": "viewer"}), 201),
    ("DELETE", "/keys/{id}"): Row("key.write", at(Lab.key_of), first="key.read"),
    ("GET", "/members"): Row("member.read", plain(), 200),
    ("PUT", "/members/{user}"): Row("member.write", lambda _: Ask({"user": "new"}, body={"role": "viewer"}), 200),
    ("GET", "/projects"): Row("project.read", plain(), 200),
    ("POST", "/projects"): Row("project.write", lambda lab: Ask(body={"name": lab.name()}), 201),
    ("GET", "/projects/{id}"): Row("project.read", at(Lab.project)),
    ("PATCH", "/projects/{id}"): Row("project.write", at(Lab.project, {"description": "new"})),
    ("GET", "/runs"): Row("run.read", lambda lab: Ask(query={"project": lab.project()})),
    ("POST", "/runs"): Row("run.write", lambda lab: Ask(body={"project": lab.project()})),
    ("POST", "/runs/batch"): Row("run.write", lambda lab: Ask(body={"runs": [{"project": lab.project()}]})),
    ("GET", "/runs/diff"): Row("run.read", lambda lab: Ask(query={"a": lab.run(), "b": lab.run()})),
    ("GET", "/runs/{id}"): Row("run.read", at(Lab.run)),
    ("PATCH", "/runs/{id}"): Row("run.write", at(Lab.run, {"notes": "new"})),
    ("POST", "/runs/{id}/finish"): Row("run.write", at(Lab.run, {})),
    ("POST", "/runs/{id}/stop"): Row("run.write", at(lambda lab: lab.run("running"), {})),
    ("POST", "/runs/{id}/heartbeat"): Row("run.write", at(lambda lab: lab.run("running"), {})),
    ("POST", "/rows/{id}"): Row("run.write", at(Lab.run, {"rows": [{"data": {"a": 1}}]})),
    ("GET", "/rows/{id}"): Row("run.read", at(Lab.run)),
    ("GET", "/rows/{id}/stats"): Row("run.read", at(Lab.run)),
    ("GET", "/documents"): Row("document.read", lambda lab: Ask(query={"project": lab.project()})),
    ("POST", "/documents"): Row(
        "document.write", lambda lab: Ask(body={"project": lab.project(), "type": "prompt", "name": "new"})
    ),
    ("GET", "/documents/{id}"): Row("document.read", at(Lab.document)),
    ("PATCH", "/documents/{id}"): Row("document.write", at(Lab.document, {"description": "new"})),
    ("POST", "/documents/{id}/versions"): Row("document.write", at(Lab.document, {"body": {"new": 1}})),
    ("GET", "/documents/{id}/versions"): Row("document.read", at(Lab.document)),
    ("GET", "/documents/{id}/versions/latest"): Row("document.read", at(Lab.document)),
    ("GET", "/documents/{id}/versions/{number}"): Row(
        "document.read", lambda lab: Ask({"id": lab.document(), "number": "1"})
    ),
    ("GET", "/experiments"): Row("document.read", lambda lab: Ask(query={"project": lab.project()})),
    ("POST", "/experiments"): Row("document.write", lambda lab: Ask(body={"name": "new", "project": lab.project()})),
    ("GET", "/experiments/{id}"): Row("document.read", at(Lab.experiment)),
    ("PATCH", "/experiments/{id}"): Row("document.write", at(Lab.experiment, {"description": "new"})),
    ("POST", "/experiments/{id}/start"): Row("document.write", at(Lab.experiment, {})),
    ("POST", "/experiments/{id}/stop"): Row("document.write", at(lambda lab: lab.experiment(running=True), {})),
    ("POST", "/experiments/{id}/complete"): Row("document.write", at(lambda lab: lab.experiment(running=True), {})),
    ("GET", "/experiments/{id}/results"): Row("document.read", at(Lab.experiment)),
    ("GET", "/artifacts"): Row("artifact.read", lambda lab: Ask(query={"project": lab.project()})),
    ("POST", "/artifacts"): Row(
        "artifact_version.write",
        lambda lab: Ask(body={"project": lab.project(), "name": "n"}),
        first="artifact.write",
    ),
    ("GET", "/artifacts/resolve"): Row(
        "artifact.read",
        lambda lab: Ask(query={"project": "lab", "name": lab.owner.artifacts.get(lab.version().parent_id).name}),
    ),
    ("GET", "/artifacts/versions"): Row(
        "artifact_version.read", lambda lab: Ask(query={"id": lab.version().parent_id})
    ),
    ("GET", "/artifacts/versions/{id}"): Row("artifact_version.read", at(lambda lab: lab.version().id)),
    ("POST", "/artifacts/versions/{id}/aliases"): Row(
        "artifact_version.write", at(lambda lab: lab.version().id, {"add": ["best"]})
    ),
    ("GET", "/artifacts/{id}"): Row("artifact.read", at(lambda lab: lab.version().parent_id)),
    ("GET", "/files/{id}"): Row("run.read", at(Lab.file)),
    ("GET", "/environments"): Row("project.read", lambda lab: Ask(query={"project": lab.project()})),
    ("PUT", "/environments"): Row(
        "environment.write", lambda lab: Ask(body={"project": "lab", "name": "new", "document_id": lab.document()})
    ),
    ("GET", "/environments/{name}"): Row(
        "project.read", lambda lab: Ask({"name": lab.environment()}, {"project": "lab"})
    ),
    ("GET", "/links/{id}"): Row("run.read", at(Lab.run)),
    ("POST", "/links"): Row(
        "run.write", lambda lab: Ask(body={"source_id": lab.run(), "target_id": lab.document(), "type": "used"})
    ),
    ("DELETE", "/links/{id}"): Row("run.write", at(Lab.link)),
    ("POST", "/plans"): Row("run.trash", lambda lab: Ask(body={"selection": {"ids": [lab.run()]}})),
    ("POST", "/apply"): Row("run.trash", lambda lab: Ask(body={"selection": {"ids": [lab.run()]}, "verb": "trash"})),
    ("GET", "/deletions"): Row("run.read", plain(), 200),
    ("GET", "/deletions/{id}"): Row("run.read", at(Lab.deletion)),
    ("GET", "/deletions/{id}/members"): Row("run.read", at(Lab.deletion)),
    ("POST", "/deletions/{id}/restore"): Row("run.restore", at(Lab.deletion, {})),
    ("POST", "/deletions/{id}/purge"): Row("run.purge", at(Lab.deletion, {})),
    ("GET", "/trash"): Row("run.read", plain(), 200),
    ("POST", "/items/{id}/archive"): Row("run.archive", at(Lab.run, {})),
    ("POST", "/items/{id}/unarchive"): Row("run.archive", at(Lab.archived, {})),
    ("POST", "/items/{id}/trash"): Row("run.trash", at(Lab.run, {})),
    ("POST", "/items/{id}/restore"): Row("run.restore", at(Lab.trashed, {})),
    ("POST", "/items/{id}/purge"): Row("run.purge", at(Lab.trashed, {})),
    ("PUT", "/items/{id}/lock"): Row("run.lock", at(Lab.run, {"locked": True})),
    ("GET", "/items/{id}"): Row("run.read", at(Lab.run)),
    ("GET", "/audit"): Row("audit.read", plain(), 200),
    ("GET", "/audit/verify"): Row("audit.read", plain(), 200),
    ("GET", "/jobs"): Row("job.read", plain(), 200),
    ("GET", "/jobs/{id}"): Row("job.read", at(Lab.job)),
    ("GET", "/usage"): Row("usage.read", plain(), 200),
    ("POST", "/runs/{id}/history"): Row("run.write", at(Lab.run, {"rows": [{"_step": 0, "a": 1}]}, offset=0)),
    ("GET", "/runs/{id}/history"): Row("run.read", at(Lab.run)),
    ("GET", "/runs/{id}/series"): Row("run.read", at(Lab.run)),
    ("PUT", "/blobs"): Row("run.write", lambda _: Ask(raw=b"content"), 200),
    ("HEAD", "/blobs/{digest}"): Row("run.read", lambda lab: Ask({"digest": lab.digest()})),
    ("PUT", "/files/{id}"): Row("run.write", lambda lab: Ask({"id": lab.run()}, {"path": "new.txt"}, raw=b"content")),
    ("GET", "/files/{id}/content"): Row("run.read", at(Lab.file, path="a.txt")),
}

MORE: dict[str, tuple[tuple[str, str], Row]] = {
    "trash a project": (("POST", "/items/{id}/trash"), Row("project.trash", at(Lab.project, {}))),
    "purge a project": (
        ("POST", "/items/{id}/purge"),
        Row("project.purge", at(lambda lab: trashed_project(lab), {})),
    ),
    "apply a purge": (
        ("POST", "/apply"),
        Row("run.purge", lambda lab: Ask(body={"selection": {"ids": [lab.trashed()]}, "verb": "purge"})),
    ),
    "write rows of a document": (("POST", "/rows/{id}"), Row("document.write", at(Lab.document, {"rows": []}))),
    "plan a purge": (
        ("POST", "/plans"),
        Row("run.purge", lambda lab: Ask(body={"selection": {"ids": [lab.trashed()]}, "verb": "purge"})),
    ),
}
"""Routes whose permission depends on what they are about."""

CASES: dict[str, tuple[tuple[str, str], Row]] = {f"{m} {p}": ((m, p), row) for (m, p), row in TABLE.items()} | MORE
ROUTES = {(one.method, one.path) for one in (*ENDPOINTS, *DESCRIBED)}


def trashed_project(lab: Lab) -> str:
    id = lab.project()
    lab.owner.projects.trash(id)
    return id


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with lab(tmp_path_factory.mktemp("permissions")) as opened:
        yield opened


def allowed(permission: str, role: str) -> bool:
    if permission == ANYBODY:
        return True
    if role == "agent":
        return permission.rpartition(".")[2] not in AGENT_DENIED
    return RANK[Role(role)] >= RANK[PERMISSIONS[permission]]


def test_every_route_has_a_row_and_every_row_a_route() -> None:
    assert set(TABLE) == ROUTES


def test_every_permission_is_asked_for_by_some_route() -> None:
    asked = {row.permission for _, row in CASES.values()} - {ANYBODY}
    kinds = {permission for permission in PERMISSIONS if permission.split(".")[0] in ("artifact", "artifact_version")}
    verbs = {f"{kind}.{verb}" for kind in ("document", "project") for verb in ("archive", "lock", "restore")}
    same_code = {"document.trash", "document.purge", "artifact.write", "check.run", *kinds, *verbs}
    assert set(PERMISSIONS) - asked - same_code == set()


@pytest.mark.parametrize("role", [*ROLES, "agent"])
@pytest.mark.parametrize("case", CASES)
def test_a_role_may_do_what_the_table_says_and_nothing_else(live: Lab, case: str, role: str) -> None:
    (method, path), row = CASES[case]
    answer = live.ask(method, path, row.ask(live), key=live.keys[role])
    if allowed(row.permission, role):
        assert answer.status in (200, 201), answer.body
        return
    assert answer.status == 403, answer.body
    if method != "HEAD":
        assert answer.json["code"] == "forbidden"
        assert answer.json["details"]["permission"] in (row.permission, row.first)


@pytest.mark.parametrize("case", CASES)
def test_to_a_stranger_our_objects_do_not_exist(live: Lab, case: str) -> None:
    (method, path), row = CASES[case]
    ask = row.ask(live)
    before = live.counts()
    answer = live.ask(method, path, ask, key=live.keys["stranger"])
    assert answer.status == row.hidden, answer.body
    if answer.status == 404 and method != "HEAD":
        assert answer.json["code"] == "not_found"
    ours = set(re.findall(rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", answer.body))
    known = {run.id for run in live.owner.runs.list(state="any", limit=1_000)} | {live.owner.me().organization_id}
    assert ours & {id.encode() for id in known} <= {value.encode() for value in _said(ask)}
    assert live.counts() == before


def _said(ask: Ask) -> set[str]:
    """Values that the stranger sent: an answer may repeat those."""
    return set(re.findall(r"[0-9a-f-]{36}", str(ask)))


@pytest.fixture(scope="module")
def no_keys(live: Lab) -> dict[str, str]:
    """Texts that open nothing, by what they are."""
    soon = datetime.now(UTC) + timedelta(seconds=1)
    expiring = live.owner.keys.create("late", role="owner", expires_at=soon).secret
    revoked = live.owner.keys.create("left", role="owner")
    assert live.request("GET", "/api/v1/me", key=revoked.secret).status == 200
    live.owner.keys.revoke(revoked.id)
    time.sleep(max(0.0, (soon - datetime.now(UTC)).total_seconds() + 0.01))
    return {
        "none": "",
        "unknown": "lk-" + "x" * 43,
        "revoked": revoked.secret,
        "expired": expiring,
        "garbage": "\xff\xfe",
    }


@pytest.mark.parametrize("case", TABLE, ids=lambda case: " ".join(case))
def test_without_a_key_that_works_nothing_is_answered(
    live: Lab, no_keys: dict[str, str], case: tuple[str, str]
) -> None:
    method, path = case
    paths = re.sub(r"\{\w+\}", "00000000-0000-7000-8000-000000000000", path)
    for what, key in no_keys.items():
        answer = live.request(method, f"/api/v1{paths}", None if method in ("GET", "HEAD") else b"{}", key=key)
        assert answer.status == 401, (what, answer.body)
        if method != "HEAD":
            assert answer.json["code"] == "unauthenticated"
            assert key == "" or key not in answer.body.decode()


@pytest.mark.parametrize("what", ["none", "unknown", "revoked", "expired", "garbage"])
def test_a_dialect_wants_a_key_that_works_too(live: Lab, no_keys: dict[str, str], what: str) -> None:
    for dialect in map(load_dialect, DIALECTS):
        wanted = dialect.encode_error(Unauthenticated("no")).status_code
        for route in dialect.routes:
            path = re.sub(r"\{\w+(:\w+)?\}", "00000000-0000-7000-8000-000000000000", route.path)  # type: ignore[attr-defined]
            if path.startswith(tuple(dialect.public) or ("\0",)):
                continue
            for method in sorted(route.methods - {"HEAD"}):  # type: ignore[attr-defined]
                answer = live.request(method, dialect.prefix + path, b"{}", key=no_keys[what])
                assert answer.status == wanted, (dialect.name, method, path, answer.body)


def test_to_a_stranger_our_objects_do_not_exist_in_a_dialect(live: Lab) -> None:
    ids = [live.run(), live.document(), live.project(), live.experiment(), live.version().id]
    braintrust = load_dialect("braintrust")
    seen = 0
    for route in braintrust.routes:
        names = re.findall(r"\{(\w+)", route.path)  # type: ignore[attr-defined]
        if not names or "GET" not in route.methods:  # type: ignore[attr-defined]
            continue
        for id in ids:
            path = re.sub(r"\{\w+(:\w+)?\}", id, route.path)  # type: ignore[attr-defined]
            answer = live.request("GET", braintrust.prefix + path, key=live.keys["stranger"])
            assert 400 <= answer.status < 500 or answer.status == 501, (path, answer.body)
            seen += 1
    assert seen > 20


def test_users_revoke_their_own_keys_and_nobody_elses(live: Lab) -> None:
    own, other = live.owner.keys.create("holder", role="editor"), live.key_of("another")
    assert live.ask("DELETE", "/keys/{id}", Ask({"id": other}), key=own.secret).status == 403
    assert live.ask("DELETE", "/keys/{id}", Ask({"id": own.id}), key=own.secret).status == 200
    assert live.ask("DELETE", "/keys/{id}", Ask({"id": own.id}), key=own.secret).status == 401


def test_a_revoked_key_opens_nothing_from_the_moment_on(live: Lab) -> None:
    key = live.owner.keys.create("leaver", role="editor")
    assert live.request("GET", "/api/v1/me", key=key.secret).status == 200
    live.owner.keys.revoke(key.id)
    assert live.request("GET", "/api/v1/me", key=key.secret).status == 401


def test_a_role_that_is_lowered_is_lower_from_the_moment_on(live: Lab) -> None:
    key = live.owner.keys.create("mover", role="editor").secret
    assert live.ask("POST", "/runs", Ask(body={"project": "lab"}), key=key).status == 201
    live.owner.members.set("mover", "viewer")
    assert live.ask("POST", "/runs", Ask(body={"project": "lab"}), key=key).status == 403


def test_a_key_reaches_no_workspace_that_its_user_is_no_member_of(live: Lab) -> None:
    live.owner.workspaces.create("closed")
    for workspace in ("closed", "elsewhere", "no such workspace"):
        answer = live.request("GET", "/api/v1/me", headers={"Labkeep-Workspace": workspace}, key=live.keys["editor"])
        assert answer.status == 404


def test_what_needs_no_key_says_nothing_of_what_is_stored(live: Lab) -> None:
    live.run()
    for path in ("/healthz", "/readyz", "/metrics", "/docs", "/api/v1/openapi.json"):
        answer = live.request("GET", path, key="")
        assert answer.status == 200
        assert b"lk-" not in answer.body.replace(b"lk-\xe2\x80\xa6", b"")
        assert b"run-" not in answer.body

"""The native API without a socket: an opened folder, a world of objects in it, and one good request for each route."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from time import sleep
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import msgspec

from labkeep.api.routes import ENDPOINTS, PREFIX
from labkeep.api.stream import DESCRIBED
from labkeep.client.local import Folder, open_folder, release
from labkeep.client.transport import Answer, Call
from labkeep.core.columns import from_json_rows
from labkeep.http.openapi import ByteEndpoint
from labkeep.http.wire import Endpoint
from labkeep.storage import segments
from labkeep.storage.series import Table

Json = dict[str, Any]
World = dict[str, str]
Row = Endpoint | ByteEndpoint

ROUTES: list[Row] = [*DESCRIBED, *ENDPOINTS]
"""Bytes first: the last of the others take away what these need."""

DIGEST = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
"""Of ``hello``, which every world has uploaded."""


IMPORTED_PROJECT, IMPORTED = "01990000-0000-7000-8000-000000000001", "01990000-0000-7000-8000-000000000002"
"""What imports of a world bring, as the archive calls it."""


def _parquet() -> bytes:
    file = BytesIO()
    table = Table.from_batch(from_json_rows([{"_step": 0, "loss": 0.5}]))
    segments.write(file, lambda: [(0, table)])
    return file.getvalue()


class Sample(NamedTuple):
    """The permission that a route needs (None: any key will do), and values for a request: ``$run`` is the world's."""

    needs: str | None
    values: Json = {}
    server: bool = False
    """Whether it also needs the administrator's key of the whole server."""


_RUN, _PROJECT, _DOCUMENT = {"id": "$run"}, {"project": "$project"}, {"id": "$document"}

SAMPLES: dict[str, Sample] = {
    "accounts_me": Sample(None),
    "accounts_list_workspaces": Sample("workspace.read"),
    "accounts_create_workspace": Sample("workspace.write", {"name": "another room"}),
    "accounts_list_keys": Sample("key.read"),
    "accounts_create_key": Sample("key.write", {"user": "somebody"}),
    "accounts_resume_key": Sample("key.write", {"id": "$key"}),
    "accounts_revoke_key": Sample("key.write", {"id": "$key"}),
    "accounts_list_members": Sample("member.read"),
    "accounts_set_member": Sample("member.write", {"user": "somebody", "role": "viewer"}),
    "projects_list_": Sample("project.read"),
    "projects_create": Sample("project.write", {"name": "another", "exist_ok": True}),
    "projects_get": Sample("project.read", {"id": "$project"}),
    "encryption_status_get": Sample("project.read", {"id": "$project"}),
    "projects_update": Sample("project.write", {"id": "$project", "description": "new"}),
    "runs_list_": Sample("run.read", _PROJECT),
    "runs_create": Sample("run.write", _PROJECT),
    "runs_create_many": Sample("run.write", {"runs": [_PROJECT]}),
    "runs_diff": Sample("run.read", {"a": "$run", "b": "$other"}),
    "runs_get": Sample("run.read", _RUN),
    "runs_update": Sample("run.write", {"id": "$run", "notes": "new"}),
    "runs_finish": Sample("run.write", _RUN),
    "runs_stop": Sample("run.write", {"id": "$other"}),
    "branches_fork": Sample("run.write", {"id": "$run", "step": 0}),
    "branches_rewind": Sample("run.write", {"id": "$run", "step": 0}),
    "runs_heartbeat": Sample("run.write", {"id": "$other"}),
    "rows_write": Sample("run.write", {"id": "$run", "rows": [{"id": "a", "data": {"x": 1}}]}),
    "rows_read": Sample("run.read", _RUN),
    "rows_stats": Sample("run.read", _RUN),
    "documents_list_": Sample("document.read", _PROJECT),
    "documents_create": Sample("document.write", {"project": "$project", "type": "prompt", "name": "made"}),
    "documents_get": Sample("document.read", _DOCUMENT),
    "documents_update": Sample("document.write", {"id": "$document", "description": "new"}),
    "documents_commit": Sample("document.write", {"id": "$document", "body": {"text": "second"}}),
    "documents_list_versions": Sample("document.read", _DOCUMENT),
    "documents_get_version": Sample("document.read", {"id": "$document", "number": "1"}),
    "documents_get_version_latest": Sample("document.read", _DOCUMENT),
    "experiments_list_": Sample("document.read", _PROJECT),
    "experiments_create": Sample("document.write", {"project": "$project", "name": "made"}),
    "experiments_get": Sample("document.read", {"id": "$experiment"}),
    "experiments_update": Sample("document.write", {"id": "$experiment", "description": "new"}),
    "experiments_start": Sample("document.write", {"id": "$experiment"}),
    "experiments_stop": Sample("document.write", {"id": "$experiment"}),
    "experiments_complete": Sample("document.write", {"id": "$experiment"}),
    "experiments_results": Sample("document.read", {"id": "$experiment"}),
    "artifacts_list_": Sample("artifact.read", _PROJECT),
    "artifacts_create_version": Sample("artifact_version.write", {"project": "$project", "name": "made"}),
    "artifacts_resolve": Sample("artifact_version.read", {"project": "$project", "name": "model:latest"}),
    "artifacts_list_versions": Sample("artifact_version.read", {"id": "$artifact"}),
    "artifacts_get_version": Sample("artifact_version.read", {"id": "$version"}),
    "artifacts_set_aliases": Sample("artifact_version.write", {"id": "$version", "add": ["best"]}),
    "artifacts_get": Sample("artifact.read", {"id": "$artifact"}),
    "files_list_": Sample("run.read", _RUN),
    "environments_list_": Sample("project.read", _PROJECT),
    "environments_bind": Sample(
        "environment.write", {"project": "$project", "name": "production", "document_id": "$document"}
    ),
    "environments_get": Sample("project.read", {"project": "$project", "name": "staging"}),
    "environments_list_links": Sample("document.read", _DOCUMENT),
    "environments_link": Sample("document.write", {"source_id": "$document", "target_id": "$other", "type": "made"}),
    "environments_unlink": Sample("document.write", {"id": "$link"}),
    "deletions_list_plans": Sample("run.read"),
    "deletions_get_plan": Sample("run.read", {"id": "$plan"}),
    "deletions_diff_plans": Sample("run.read", {"id": "$plan", "other": "$plan"}),
    "undoing_undo": Sample("run.restore", {"token": "$undone"}),
    "deletions_make_plan": Sample("run.trash", {"verb": "trash", "selection": {"ids": ["$run"]}}),
    "deletions_apply": Sample("run.trash", {"verb": "trash", "selection": {"ids": ["$spare"]}, "on_running": "stop"}),
    "deletions_list_": Sample("run.read", {"item_id": "$trashed"}),
    "deletions_get": Sample("run.read", {"id": "$deletion"}),
    "deletions_members": Sample("run.read", {"id": "$deletion"}),
    "deletions_restore": Sample("run.restore", {"id": "$deletion"}),
    "deletions_purge": Sample("run.purge", {"id": "$deletion"}),
    "deletions_trash_list": Sample("run.read", _PROJECT),
    "deletions_archive_item": Sample("run.archive", _RUN),
    "deletions_unarchive_item": Sample("run.archive", _RUN),
    "deletions_trash_item": Sample("run.trash", _RUN),
    "deletions_restore_item": Sample("run.restore", {"id": "$trashed"}),
    "deletions_purge_item": Sample("run.purge", {"id": "$trashed"}),
    "deletions_set_lock": Sample("run.lock", {"id": "$other", "locked": True}),
    "deletions_get_item": Sample("run.read", {"id": "$other"}),
    "rules_get": Sample("workspace.read", _PROJECT),
    "rules_set_workspace": Sample("rules.write", {"rules": {"grace_days": 30}}),
    "rules_set_organization": Sample("rules.write_organization", {"rules": {"grace_days": 30}}),
    "holds_list_": Sample("hold.read"),
    "holds_set_": Sample("hold.set", {"matter": "a case", "ids": ["$held"], "reason": "asked for"}),
    "holds_preview": Sample("hold.set", {"kind": "run", "project": "$project", "q": 'config.of = "this world"'}),
    "holds_get": Sample("hold.read", {"id": "$hold"}),
    "holds_held": Sample("hold.read", {"id": "$hold"}),
    "holds_lift": Sample("hold.lift", {"id": "$hold", "reason": "closed"}),
    "receipts_list_": Sample("receipt.read"),
    "receipts_get": Sample("receipt.read", {"id": "$receipt"}),
    "receipts_of_deletion": Sample("receipt.read", {"id": "$purged_deletion"}),
    "receipts_keys": Sample(None),
    "receipts_rotate": Sample("signing_key.write", server=True),
    "policies_list_": Sample("policy.read", {"project": "$project"}),
    "policies_create": Sample("policy.write", {"name": "made", "body": {"older_than": "30d"}, "project": "$project"}),
    "policies_put": Sample("policy.write", {"name": "put", "body": {"keep_last": 5}, "project": "$project"}),
    "policies_get": Sample("policy.read", {"id": "$policy"}),
    "policies_update": Sample("policy.write", {"id": "$policy", "every_s": 7200}),
    "policies_remove": Sample("policy.write", {"id": "$policy"}),
    "policies_list_reports": Sample("policy.read", {"id": "$policy"}),
    "policies_get_report": Sample("policy.read", {"id": "$policy_report"}),
    "policy_runs_run": Sample("policy.write", {"id": "$policy"}),
    "policy_previews_preview": Sample("policy.read", {"id": "$policy"}),
    "policy_previews_preview_draft": Sample("policy.read", {"body": {"older_than": "30d"}, "project": "$project"}),
    "retention_limits_table": Sample("policy.read"),
    "erasures_list_": Sample("erasure.read"),
    "erasures_create": Sample("erasure.write", {"subject": "nobody-at-all"}),
    "erasures_get": Sample("erasure.read", {"id": "$erasure"}),
    "erasures_preview": Sample("erasure.read", {"id": "$erasure"}),
    "erasures_run": Sample("erasure.run", {"id": "$erasure"}),
    "erasures_cancel": Sample("erasure.write", {"id": "$withdrawn"}),
    "removals_plan": Sample("run.trash", {"id": "$other", "part": "row", "ids": ["kept"]}),
    "removals_remove": Sample("run.trash", {"id": "$other", "part": "metric", "ref": "score"}),
    "removals_list_": Sample("run.read", _PROJECT),
    "removals_list__run": Sample("run.read", {"id": "$other"}),
    "removals_get": Sample("run.read", {"id": "$removal"}),
    "removals_restore": Sample("run.restore", {"id": "$removal"}),
    "removals_purge": Sample("run.purge", {"id": "$doomed"}),
    "audits_list_": Sample("audit.read", {"id": "$run"}),
    "audits_verify": Sample("audit.read"),
    "audits_export": Sample("audit.read"),
    "deleted_objects_list_": Sample("audit.read"),
    "checkpoints_list_": Sample("audit.read"),
    "checkpoints_sign": Sample("audit.read"),
    "jobs_list_": Sample("job.read"),
    "jobs_get": Sample("job.read", {"id": "$job"}),
    "jobs_items": Sample("job.read", {"id": "$job"}),
    "jobs_pause": Sample("job.control", {"id": "$job"}),
    "jobs_resume": Sample("job.control", {"id": "$job"}),
    "jobs_cancel": Sample("job.control", {"id": "$job"}),
    "jobs_set_rate": Sample("job.control", {"id": "$job", "rate": 10}),
    "usage_by": Sample("usage.read"),
    "webhooks_list_": Sample("webhook.read"),
    "webhooks_create": Sample("webhook.write", {"url": "https://example.com/hook", "events": ["run.*"]}),
    "webhooks_get": Sample("webhook.read", {"id": "$webhook"}),
    "webhooks_edit": Sample("webhook.write", {"id": "$webhook", "events": ["*.purged"]}),
    "webhooks_remove": Sample("webhook.write", {"id": "$spare_webhook"}),
    "webhooks_rotate_secret": Sample("webhook.write", {"id": "$webhook"}),
    "webhooks_test": Sample("webhook.write", {"id": "$webhook"}),
    "webhooks_deliveries": Sample("webhook.read", {"id": "$webhook"}),
    "webhooks_replay": Sample("webhook.write", {"id": "$webhook", "since": 1}),
    "exports_list_streams": Sample("run.read", _RUN),
    "exports_read_segment": Sample("run.read", _RUN),
    "rows_states": Sample("run.read", _RUN),
    "imports_start": Sample("import.write", {"archive": DIGEST}),
    "imports_get": Sample("import.write", {"id": "$import"}),
    "imports_add_part": Sample("import.write", {"id": "$import", "number": 0}),
    "imports_add_history": Sample("import.write", {"id": "$import", "run_id": IMPORTED}),
    "imports_finish": Sample("import.write", {"id": "$import_to_finish"}),
    "imports_give_up": Sample("import.write", {"id": "$import_to_drop"}),
    "history_append": Sample("run.write", _RUN),
    "history_read": Sample("run.read", _RUN),
    "history_list_series": Sample("run.read", _RUN),
    "blobs_put": Sample("run.write"),
    "blobs_head": Sample("run.read", {"digest": DIGEST}),
    "files_put": Sample("run.write", {"id": "$run", "path": "new.txt"}),
    "files_content": Sample("run.read", {"id": "$run", "path": "a.txt"}),
}
"""By the name of the route."""

BODIES = {
    "history_append": b'{"rows": [{"_step": 0, "loss": 0.5}]}',
    "blobs_put": b"welcome",
    "files_put": b"welcome",
    "imports_add_history": _parquet(),
}
"""What is sent to the routes that take bytes."""

_PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")


def label(route: Row) -> str:
    """How a test is called."""
    return f"{route.method} {route.path}"


def takes_json(route: Row) -> bool:
    """Whether the values of a request are in its body."""
    return isinstance(route, Endpoint) and route.method not in ("GET", "DELETE")


def filled(value: Any, world: Mapping[str, str]) -> Any:
    """``value`` with the names of ``world`` in place of ``$name``."""
    if isinstance(value, str):
        return re.sub(r"\$(\w+)", lambda found: world[found[1]], value)
    if isinstance(value, list):
        return [filled(each, world) for each in value]
    return {name: filled(each, world) for name, each in value.items()} if isinstance(value, dict) else value


class Ask(NamedTuple):
    """A request without its key."""

    method: str
    path: str
    body: bytes = b""
    headers: Mapping[str, str] = {}


def path_of(route: Row, values: Json) -> str:
    """The path with the values that it holds; they are taken out of ``values``."""
    return PREFIX + _PARAMETER.sub(lambda found: quote(str(values.pop(found[1])), safe=":"), route.path)


def good_request(route: Row, world: World) -> Ask:
    """A request that a user with the permission could send."""
    values = filled(dict(SAMPLES[route.name].values), world)
    path = path_of(route, values)
    if takes_json(route):
        return Ask(route.method, path, msgspec.json.encode(values))
    return Ask(route.method, f"{path}?{urlencode(values)}", BODIES.get(route.name, b""))


class Api(NamedTuple):
    """An opened folder."""

    folder: Folder

    @property
    def app(self) -> Any:
        """The ASGI application itself."""
        return self.folder._opened.app

    def send(self, ask: Ask, key: str | None) -> Answer:
        """The answer, whatever its status."""
        headers = {**ask.headers, **({} if key is None else {"Authorization": f"Bearer {key}"})}
        return self.folder.send(Call(method=ask.method, path=ask.path, headers=headers, body=ask.body)).result(60)

    def ok(self, method: str, path: str, **values: Any) -> Json:
        """Do it as the owner of the folder."""
        answer = self.send(Ask(method, PREFIX + path, msgspec.json.encode(values)), self.folder.key)
        assert answer.status < 300, answer
        found: Json = msgspec.json.decode(answer.body)
        return found

    def key_for(self, user: str, role: str, *, agent: bool = False, workspace: str = "default") -> Json:
        """A new key."""
        return self.ok("POST", "/keys", user=user, role=role, agent=agent, workspace=workspace)

    def world(self, name: str) -> World:
        """A project of that name, with one of everything in it."""
        project = self.ok("POST", "/projects", name=name)["id"]
        runs = {each: self._run(project) for each in ("run", "other", "spare", "trashed", "purged", "held", "undone")}
        document = self.ok(
            "POST", "/documents", project=project, type="prompt", name=f"{name} text", body={"text": "first"}
        )
        version = self.ok("POST", "/artifacts", project=project, name="model")
        self.ok("PUT", "/environments", project=project, name="staging", document_id=document["id"])
        link = self.ok("POST", "/links", source_id=document["id"], target_id=runs["run"], type="uses")
        self.ok("DELETE", f"/links/{link['id']}")  # the run shall be free to go; another link stays
        link = self.ok("POST", "/links", source_id=document["id"], target_id=runs["other"], type="uses")
        for path in ("/blobs", f"/files/{runs['run']}?path=a.txt"):
            self.send(Ask("PUT", PREFIX + path, b"hello"), self.folder.key)
        gone = self._trash(runs["purged"])
        removed = self._removed(runs["other"])
        job = self.ok("POST", f"/deletions/{gone}/purge")["job_id"]
        policy = self.ok("POST", "/policies", name=f"{name} policy", project=project, body={"older_than": "90d"})
        return {
            **runs,
            **removed,
            "erasure": self.ok("POST", "/erasures", subject=f"nobody in {name}")["id"],
            "withdrawn": self.ok("POST", "/erasures", subject=f"nobody of {name}")["id"],
            "project": project,
            "document": document["id"],
            "version": version["id"],
            "artifact": version["parent_id"],
            "experiment": self.ok("POST", "/experiments", project=project, name=f"{name} trial")["id"],
            "link": link["id"],
            "deletion": self._trash(runs["trashed"]),
            "policy": policy["id"],
            "policy_report": self.ok("POST", f"/policies/{policy['id']}/run")["report_id"],
            "undone": self._trash(runs["undone"]),
            "hold": self.ok("POST", "/holds", matter="a case", ids=[runs["held"]])["id"],
            **{
                name: self.ok("POST", "/webhooks", url="https://webhooks.invalid/")["webhook"]["id"]
                for name in ("webhook", "spare_webhook")
            },
            **{each: self._import() for each in ("import", "import_to_finish", "import_to_drop")},
            "job": job,
            "purged_deletion": gone,
            "receipt": self._receipt(gone),
            "plan": self.ok("POST", "/plans", selection={"ids": [runs["other"]]})["id"],
            "key": self.key_for(f"{name} guest", "viewer")["id"],
        }

    def _import(self) -> str:
        """An import that has begun: a project with a run."""
        begun = self.ok("POST", "/imports", archive=DIGEST, remap=True)["id"]
        when = dict.fromkeys(("created_at", "updated_at"), "2026-01-01T00:00:00Z")
        project = {"id": IMPORTED_PROJECT, "kind": "project", "parent_id": IMPORTED_PROJECT, "name": begun, **when}
        home = {"parent_id": IMPORTED_PROJECT, "project_id": IMPORTED_PROJECT}
        run = {"id": IMPORTED, "kind": "run", "status": "finished", "name": "r", **home, **when}
        self.ok("POST", f"/imports/{begun}/parts", number=0, objects=[project, run])
        return str(begun)

    def _run(self, project: str) -> str:
        return str(self.ok("POST", "/runs", project=project, config={"of": "this world"})["id"])

    def _receipt(self, deletion: str) -> str:
        """Once nothing goes on in the background any more: a purge also drops plans."""
        while any(job["state"] in ("queued", "running") for job in self.ok("GET", "/jobs")["items"]):
            sleep(0.02)
        return str(self.ok("GET", f"/deletions/{deletion}/receipt")["id"])

    def _removed(self, run: str) -> World:
        """Rows and a metric, of which some are removed."""
        self.ok("POST", f"/rows/{run}", rows=[{"id": id, "data": {}} for id in ("kept", "removal", "doomed")])
        self.send(Ask("POST", f"{PREFIX}/runs/{run}/history", b'{"rows": [{"_step": 0, "score": 1}]}'), self.folder.key)
        wanted = {"id": run, "part": "row"}
        return {id: str(self.ok("POST", "/removals", ids=[id], **wanted)["id"]) for id in ("removal", "doomed")}

    def _trash(self, run: str) -> str:
        outcome = self.ok("POST", f"/items/{run}/trash", on_running="stop")
        return str(outcome["deletion_id"])


@contextmanager
def opened(folder: Path) -> Iterator[Api]:
    """The API of a folder, until the block ends."""
    held = open_folder(folder)
    try:
        yield Api(held)
    finally:
        release(held)

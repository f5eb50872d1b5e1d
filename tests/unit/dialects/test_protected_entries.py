"""Every way in through which something could be removed, as one table: none of them removes what a legal hold covers.

A route, mutation, task or clock that is new fails here until somebody says whether it removes anything, and shows that
it does not when there is a hold.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from sqlalchemy import func, select
from starlette.testclient import TestClient

import labkeep.dialects.wandb
from labkeep.api.routes import ENDPOINTS
from labkeep.api.stream import DESCRIBED
from labkeep.core.access import Actor
from labkeep.core.columns import encode_rows
from labkeep.core.commands import (
    AppendHistory,
    Apply,
    AttachFile,
    CreateArtifactVersion,
    CreateDocument,
    CreateRun,
    ItemVerb,
    ManifestEntry,
    PurgeDeletion,
    RowIn,
    Selection,
    SetAliases,
    UpdateDocument,
    UpdateProject,
    UpdateRun,
    WriteRows,
)
from labkeep.core.commands_holds import SetHold
from labkeep.core.commands_plans import Undo
from labkeep.core.deletion import ASKERS
from labkeep.core.errors import LabkeepError
from labkeep.core.lifecycle import State
from labkeep.core.removals import Part, Remove
from labkeep.dialects import braintrust, wandb
from labkeep.dialects.braintrust.routes import ROUTES as BRAINTRUST
from labkeep.dialects.wandb.context import global_id
from labkeep.operations import (
    Store,
    artifacts,
    deletions,
    documents,
    file_searches,
    files,
    history,
    holds,
    projects,
    removals,
    rows,
    runs,
    undoing,
)
from labkeep.server import make_worker
from labkeep.storage import records
from labkeep.storage import tables as t
from labkeep.testing.factories import FixedClock
from labkeep.worker.tasks import SCHEDULE, TASKS

# --- what there is ------------------------------------------------------------------------------------------------------

NATIVE = {
    "artifacts_set_aliases",
    "branches_rewind",
    "deletions_apply",
    "deletions_purge",
    "deletions_purge_item",
    "deletions_trash_item",
    "documents_update",
    "erasures_create",
    "erasures_run",
    "files_put",
    "imports_give_up",
    "policy_runs_run",
    "projects_update",
    "removals_purge",
    "removals_remove",
    "rows_write",
    "runs_update",
    "undoing_undo",
}
"""Native routes that could take something away."""

HARMLESS = {
    *("accounts_create_workspace", "accounts_create_key", "accounts_resume_key", "accounts_revoke_key"),
    *("accounts_set_member", "projects_create", "runs_create", "runs_create_many", "runs_finish", "runs_stop"),
    *("branches_fork", "runs_heartbeat", "documents_create", "documents_commit", "experiments_create"),
    *("experiments_update", "experiments_start", "experiments_stop", "experiments_complete"),
    *("artifacts_create_version", "environments_bind", "environments_link", "environments_unlink"),
    *("deletions_make_plan", "deletions_restore", "deletions_archive_item", "deletions_unarchive_item"),
    *("deletions_restore_item", "deletions_set_lock", "rules_set_workspace", "rules_set_organization"),
    *("removals_plan", "removals_restore", "holds_set_", "holds_preview", "holds_lift", "receipts_rotate"),
    *("policies_create", "policies_put", "policies_update", "policies_remove", "checkpoints_sign"),
    *("jobs_pause", "jobs_resume", "jobs_cancel", "jobs_set_rate", "webhooks_create", "webhooks_edit"),
    *("webhooks_remove", "webhooks_rotate_secret", "webhooks_test", "webhooks_replay"),
    *("history_append", "blobs_put", "erasures_preview", "erasures_cancel"),
    *("imports_start", "imports_add_history", "imports_add_part", "imports_finish"),
}
"""Native routes that write and take nothing away from objects: they add, bind, or change records beside them."""

MUTATIONS = {
    *("deleteArtifact", "deleteArtifactPortfolio", "deleteArtifactSequence", "updateArtifact", "deleteFiles"),
    *("deleteAliases", "deleteModel", "renameProject", "deleteRun", "deleteRuns", "modifyRuns", "moveRuns"),
    *("rewindRun", "upsertBucket", "deleteSweep", "deleteSweeps", "deleteArtifactCollectionTagAssignments"),
    *("moveArtifactSequence", "updateArtifactSequence", "updateArtifactPortfolio", "unlinkArtifact", "createRunFiles"),
}
HARMLESS_MUTATIONS = {
    *("commitArtifact", "createArtifact", "createArtifactCollectionTagAssignments", "createArtifactFiles"),
    *("createArtifactManifest", "updateArtifactManifest", "useArtifact", "markRunFilesUploaded", "addAliases"),
    *("linkArtifact", "upsertModel", "notifyScriptableRunAlert", "undeleteRuns", "stopRun", "updateRunState"),
    *("agentHeartbeat", "createAgent", "upsertSweep"),
}

TASK_NAMES = {"apply": True, "purge": True, "purge_removal": True, "policy": True, "seal": False, "tell": False}
TASK_NAMES |= {"erasure.look": False, "erasure.index": False, "erasure.erase": True}
CLOCKS = {
    **dict.fromkeys(("purge_overdue", "run_policies", "trash_expired", "drop_drafts"), True),
    **dict.fromkeys(
        ("forget_imports", "mark_crashed", "sign_trails", "tell_webhooks", "forget_deliveries", "tidy", "drop_strays"),
        False,
    ),
}
"""Name -> whether it could take an object away, or a part of one."""


def test_every_native_route_that_writes_is_judged() -> None:
    writing = {endpoint.name for endpoint in ENDPOINTS if endpoint.writes}
    writing |= {endpoint.name for endpoint in DESCRIBED if endpoint.method in ("PUT", "POST", "PATCH", "DELETE")}
    assert writing == NATIVE | HARMLESS
    assert not NATIVE & HARMLESS


def test_every_mutation_is_judged() -> None:
    modules = (importlib.import_module(f"{labkeep.dialects.wandb.__name__}.{found.name}") for found in _modules())
    offered = {name for module in modules for name in getattr(module, "RESOLVERS", {}).get("Mutation", ())}
    assert offered == MUTATIONS | HARMLESS_MUTATIONS


def _modules() -> list[pkgutil.ModuleInfo]:
    return list(pkgutil.iter_modules(labkeep.dialects.wandb.__path__))


def test_every_task_and_every_clock_is_judged() -> None:
    assert TASKS.keys() == TASK_NAMES.keys()
    assert SCHEDULE.keys() == CLOCKS.keys()


# --- a store in which everything is held --------------------------------------------------------------------------------


class Held(NamedTuple):
    """One of everything, under two holds: by ids, and by a standing query."""

    store: Store
    clock: FixedClock
    admin: Actor
    project: str
    run: str
    document: str
    dataset: str
    artifact: str
    version: str
    trashed: str
    deletion: str

    def do(self, operation: Any, command: Any) -> Any:
        return self.store.database.write(operation, self.admin, command)

    def snapshot(self) -> dict[str, Any]:
        """All that must be there after any attempt."""
        return dict(self.store.database.read(_snapshot, self.admin, self))


def _snapshot(tx: Any, actor: Actor, held: Held) -> dict[str, Any]:
    ids = (held.project, held.run, held.document, held.dataset, held.artifact, held.version, held.trashed)
    items = records.fetch(tx, records.Item, records.statement(records.Item, actor).where(t.items.c.id.in_(ids)))
    found: dict[str, Any] = {item.id: (item.state == State.purged, item.parent_id, item.tags) for item in items}
    for table, owner in (
        (t.files, "owner_id"),
        (t.rows, "owner_id"),
        (t.chunks, "run_id"),
        (t.versions, "document_id"),
    ):
        query = select(func.count()).select_from(table).where(table.c[owner].in_(ids))
        extra = () if table is not t.rows else (t.rows.c.next_xact.is_(None), t.rows.c.deleted.is_(False))
        found[table.name] = tx.execute(query.where(*extra)).scalar_one()
    found["digests"] = sorted(row[0] for row in tx.execute(select(t.files.c.digest).where(t.files.c.owner_id.in_(ids))))
    found["live"] = sorted(item.id for item in items if item.state in (State.active, State.archived))
    aliases = select(t.artifact_versions.c.aliases).where(t.artifact_versions.c.id == held.version)
    found["aliases"] = set(tx.execute(aliases).scalar_one())
    return found


@pytest.fixture
def held(store: Store, admin: Actor, clock: FixedClock) -> Held:
    def do(operation: Any, command: Any) -> Any:
        return store.database.write(operation, admin, command)

    def stored(content: bytes) -> str:
        with files.begin(store, admin) as upload:
            upload.write(content)
            found = upload.finish()
        files.keep(store, admin, found)
        return found.digest

    digest = stored(b"hello")
    run = do(runs.create, CreateRun(project="p", handle="r1", name="r1", status="finished", tags=("case",)))  # type: ignore[arg-type]
    do(files.attach, AttachFile(id=run.id, path="a.txt", digest=digest, size=5))
    do(rows.write, WriteRows(id=run.id, rows=[RowIn(id="row", data={"x": 1})]))
    do(history.append, AppendHistory(id=run.id, batch=encode_rows([(step, 0.0, {"loss": 0.5}) for step in range(3)])))
    prompt = do(documents.create, CreateDocument(project="p", type="prompt", name="greeting", body={"a": 1}))
    dataset = do(documents.create, CreateDocument(project="p", type="dataset", name="questions", body={}))
    do(rows.write, WriteRows(id=dataset.id, rows=[RowIn(id="row", data={"x": 1})]))
    made = CreateArtifactVersion(
        project="p", name="model", type="model", files=[ManifestEntry(path="w", digest=digest)]
    )
    version = do(artifacts.create_version, made)
    do(artifacts.set_aliases, SetAliases(id=version.id, add=("best",)))
    gone = do(runs.create, CreateRun(project="p", handle="r2", name="r2", status="finished"))  # type: ignore[arg-type]
    deletion = do(deletions.trash_item, ItemVerb(id=gone.id)).deletion_id
    project = run.project_id
    do(holds.set_, SetHold(matter="Case 12", ids=[project]))
    do(holds.set_, SetHold(matter="Case 13", kind="run", q='tag = "case"'))
    do(holds.set_, SetHold(matter="Case 14", kind="project", q='name = "p"'))
    do(holds.set_, SetHold(matter="Case 15", kind="document", q='name = "greeting"'))
    ids = (project, run.id, prompt.id, dataset.id, version.parent_id, version.id, gone.id)
    return Held(store, clock, admin, *ids, deletion)


def unharmed(held: Held, attempt: Callable[[], Any]) -> None:
    """Whatever an attempt answers, everything is there afterwards, also when all jobs are done."""
    before = held.snapshot()
    with suppress(LabkeepError):  # refused, which is fine; what counts is what is there afterwards
        attempt()
    make_worker(held.store).run_all()
    assert held.snapshot() == before


# --- the native way in --------------------------------------------------------------------------------------------------


def native(held: Held) -> dict[str, list[tuple[Any, Any]]]:
    """By the name of a route, what somebody could try with it."""
    force: dict[str, Any] = {"force": True, "on_running": "stop", "reason": "because"}
    everything = [held.project, held.run, held.document, held.dataset, held.artifact, held.version]
    selections = [
        *(Selection(ids=[id]) for id in everything),
        Selection(project="p"),
        Selection(project="p", kind="document"),
        Selection(kind="project", q='name = "p"'),
    ]
    restored = held.do(deletions.restore_item, ItemVerb(id=held.trashed)).undo
    held.do(deletions.archive_item, ItemVerb(id=held.trashed))
    return {
        "deletions_apply": [
            *(
                (deletions.apply, Apply(selection=each, background=far, **force))
                for each in selections
                for far in (True, False)
            ),
            *((deletions.apply, Apply(verb="purge", selection=each, **force)) for each in selections),
            (deletions.apply, Apply(verb="purge", selection=Selection(deletion_id=held.deletion), **force)),
        ],
        "deletions_trash_item": [(deletions.trash_item, ItemVerb(id=id, **force)) for id in everything],
        "deletions_purge_item": [
            (deletions.purge_item, ItemVerb(id=id, **force)) for id in [*everything, held.trashed]
        ],
        "deletions_purge": [(deletions.purge, PurgeDeletion(id=held.deletion))],
        "undoing_undo": [(undoing.undo, Undo(token=str(restored)))],
        "artifacts_set_aliases": [(artifacts.set_aliases, SetAliases(id=held.version, remove=("best",)))],
        "rows_write": [
            (rows.write, WriteRows(id=id, rows=[RowIn(id="row", delete=True)])) for id in (held.run, held.dataset)
        ],
        "removals_remove": [
            (removals.remove, Remove(id=held.run, part=Part.row, ids=["row"])),
            (removals.remove, Remove(id=held.run, part=Part.file, ref="a.txt")),
        ],
        "runs_update": [(runs.update, UpdateRun(id=held.run, remove_tags=("case",)))],
        "documents_update": [(documents.update, UpdateDocument(id=held.document, name="another"))],
        "projects_update": [(projects.update, UpdateProject(id=held.project, name="another"))],
        "files_put": [
            (files.attach, AttachFile(id=held.run, path="a.txt", digest="sha256:" + "0" * 64, size=1)),
            (file_searches.detach, file_searches.DetachFiles(files=[file_searches.RunFile(id=held.run, path="a.txt")])),
        ],
    }


ELSEWHERE = {
    "branches_rewind": "test_branches",
    "erasures_create": "test_erasures",
    "erasures_run": "test_erasures",
    "policy_runs_run": "test_policies",
    "removals_purge": "test_removals",
}
"""Shown for held objects in a test of their own."""

THROUGH = {"imports_give_up": "deletions.purge"}
"""What does nothing but call an operation that is tried."""


def test_every_native_way_in_is_tried(held: Held) -> None:
    assert native(held).keys() | ELSEWHERE.keys() | THROUGH.keys() == NATIVE
    for name in ELSEWHERE.values():
        (page,) = Path(__file__).parents[1].rglob(f"{name}.py")
        assert "held" in page.read_text("utf-8"), name


@pytest.mark.parametrize("name", sorted(NATIVE - ELSEWHERE.keys() - THROUGH.keys()))
def test_no_native_route_removes_what_is_held(held: Held, name: str) -> None:
    attempts = native(held)[name]
    assert attempts
    for operation, command in attempts:
        unharmed(held, partial(held.do, operation, command))


@pytest.mark.parametrize("asker", ASKERS)
def test_nobody_is_asked_on_whose_word_it_is(held: Held, asker: Any) -> None:
    def ask(tx: Any, actor: Actor, id: str) -> Any:
        asked = Apply(selection=Selection(ids=[id]), force=True, on_running="stop")
        return deletions.apply(tx, actor, asked, asker=asker)

    for each in (held.project, held.run, held.version):
        unharmed(held, partial(held.do, ask, each))


def asked(held: Held, ask: Callable[[], Any]) -> Any:
    """The answer to a request that harms nothing."""
    answers: list[Any] = []
    unharmed(held, lambda: answers.append(ask()))
    return answers[0]


# --- the dialects -------------------------------------------------------------------------------------------------------

GRAPHQL: dict[str, Callable[[Held], list[str]]] = {
    "deleteRun": lambda h: [
        f'deleteRun(input: {{id: "{global_id("Run", h.run)}", deleteArtifacts: true}}) {{ clientMutationId }}'
    ],
    "deleteRuns": lambda _: [
        'deleteRuns(input: {entityName: "default", projectName: "p", filters: "{}", deleteArtifacts: true}) { errors }'
    ],
    "moveRuns": lambda _: [
        'moveRuns(input: {filters: "{}", sourceEntityName: "default", sourceProjectName: "p", '
        'destinationEntityName: "default", destinationProjectName: "q"}) { task }'
    ],
    "modifyRuns": lambda h: [
        'modifyRuns(input: {entityName: "default", projectName: "p", filters: "{}", removeTags: ["case"]}) { runs { id } }'
    ],
    "upsertBucket": lambda _: ['upsertBucket(input: {modelName: "p", name: "r1", tags: []}) { inserted }'],
    "deleteModel": lambda h: [f'deleteModel(input: {{id: "{global_id("Project", h.project)}"}}) {{ success }}'],
    "renameProject": lambda _: [
        'renameProject(input: {entityName: "default", oldProjectName: "p", newProjectName: "q"}) { project { id } }'
    ],
    "deleteArtifact": lambda h: [
        f'deleteArtifact(input: {{artifactID: "{global_id("Artifact", h.version)}", deleteAliases: true}}) {{ artifact {{ id }} }}'
    ],
    "deleteArtifactSequence": lambda h: [
        f'deleteArtifactSequence(input: {{artifactSequenceID: "{global_id("ArtifactCollection", h.artifact)}"}}) '
        "{ artifactCollection { id } }"
    ],
    "deleteAliases": lambda h: [
        f'deleteAliases(input: {{artifactID: "{global_id("Artifact", h.version)}", '
        'aliases: [{entityName: "default", projectName: "p", artifactCollectionName: "model", alias: "best"}]}) { success }'
    ],
    "updateArtifact": lambda h: [
        f'updateArtifact(input: {{artifactID: "{global_id("Artifact", h.version)}", aliases: []}}) {{ artifact {{ id }} }}'
    ],
    "deleteFiles": lambda h: [
        f'deleteFiles(input: {{files: ["{global_id("File", h.run, "a.txt")}"]}}) {{ success }}',
    ],
    "rewindRun": lambda _: [
        'rewindRun(input: {runName: "r1", entityName: "default", projectName: "p", metricName: "_step", metricValue: 0}) '
        "{ rewoundRun { id } }"
    ],
}

NOT_TRIED = {
    "createRunFiles": "uploads go through files.attach, which is tried natively",
    "deleteSweep": "a sweep is a document: deletions.trash_item, which is tried natively",
    "deleteSweeps": "the same",
    "deleteArtifactPortfolio": "a portfolio is an artifact: deletions.trash_item",
    "updateArtifactPortfolio": "renames only",
    "updateArtifactSequence": "renames only",
    "moveArtifactSequence": "gives another type only",
    "deleteArtifactCollectionTagAssignments": "tags of a collection; what a standing query looks for cannot go",
    "unlinkArtifact": "takes a version out of a portfolio; the version stays where it is",
}


def test_every_mutation_that_removes_is_tried() -> None:
    assert GRAPHQL.keys() | NOT_TRIED.keys() == MUTATIONS
    assert not GRAPHQL.keys() & NOT_TRIED.keys()


@pytest.mark.parametrize("name", sorted(GRAPHQL))
def test_no_mutation_removes_what_is_held(held: Held, client_of: Callable[..., TestClient], name: str) -> None:
    api = client_of(wandb.DIALECT)
    for mutation in GRAPHQL[name](held):
        answer = asked(held, partial(api.post, "/graphql", json={"query": f"mutation {{ {mutation} }}"}))
        said = json.dumps(answer.json())
        assert "legal hold" in said or answer.status_code < 300, said


DELETES = {route.path for route in BRAINTRUST if "DELETE" in (route.methods or ()) and "{id}" in route.path}


def test_no_delete_of_the_rest_dialect_removes_what_is_held(held: Held, client_of: Callable[..., TestClient]) -> None:
    api = client_of(braintrust.DIALECT)
    ids = (held.project, held.run, held.document, held.dataset, held.version)
    refused = 0
    for path in sorted(DELETES):
        for id in ids:
            where = path.replace("{id}", id).replace("{user_id}", "u")
            refused += "legal hold" in asked(held, partial(api.delete, where)).text
    assert refused >= 4  # project, experiment (the run), dataset and prompt


def test_no_row_of_the_rest_dialect_goes(held: Held, client_of: Callable[..., TestClient]) -> None:
    api = client_of(braintrust.DIALECT)
    for kind, id in (("experiment", held.run), ("dataset", held.dataset)):
        body = {"events": [{"id": "row", "_object_delete": True}]}
        assert "legal hold" in asked(held, partial(api.post, f"/v1/{kind}/{id}/insert", json=body)).text


# --- by the clock -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(name for name, removes in CLOCKS.items() if removes))
def test_no_clock_removes_what_is_held(held: Held, name: str) -> None:
    held.clock.advance(days=400)
    unharmed(held, lambda: SCHEDULE[name][1](held.store))


def test_a_purge_that_was_asked_for_before_the_hold_leaves_what_is_held(
    store: Store, admin: Actor, clock: FixedClock
) -> None:
    def do(operation: Any, command: Any) -> Any:
        return store.database.write(operation, admin, command)

    run = do(runs.create, CreateRun(project="p", status="finished"))  # type: ignore[arg-type]
    do(deletions.trash_item, ItemVerb(id=run.project_id))
    do(deletions.purge_item, ItemVerb(id=run.project_id))
    do(holds.set_, SetHold(matter="Case 12", ids=[run.id]))
    clock.advance(seconds=timedelta(days=90).total_seconds())
    make_worker(store).run_all()
    assert do(deletions.restore_item, ItemVerb(id=run.project_id)).counts == {"project": 1, "run": 1}

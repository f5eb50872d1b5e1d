"""The verbs of the lifecycle as they are asked for: plan, archive, trash, restore and purge, and what stands in their way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

import pytest
from sqlalchemy import delete, select, update

from labkeep.core.access import Actor, allows
from labkeep.core.commands import (
    Apply,
    AttachFile,
    AuditReport,
    BindEnvironment,
    CommitVersion,
    CreateArtifactVersion,
    CreateDocument,
    CreateLink,
    Get,
    GetEnvironment,
    ItemVerb,
    ListAudit,
    ListDeletions,
    ListLinks,
    ListMembersOf,
    ListRuns,
    ListTrash,
    MakePlan,
    Nothing,
    Outcome,
    Plan,
    PurgeDeletion,
    RestoreDeletion,
    Selection,
    SetAliases,
    SetLock,
    UpdateDocument,
    UpdateProject,
    UpdateRun,
)
from labkeep.core.entities import ArtifactVersion, AuditEvent, Deletion, Document, Item, Project, Run
from labkeep.core.errors import (
    AlreadyExists,
    Conflict,
    Forbidden,
    Gone,
    Held,
    Illegal,
    InUse,
    Invalid,
    LabkeepError,
    NotFound,
    Stale,
)
from labkeep.core.lifecycle import LIVE, TRANSITIONS, Kind, OnDelete, Role, State, Status, Verb
from labkeep.operations import artifacts, audits, deletions, documents, environments, files, projects, purges, runs
from labkeep.server import make_worker
from labkeep.storage import tables as t
from labkeep.storage.transaction import Tx
from labkeep.testing.factories import FixedClock, make_actor, make_document, make_project, make_run, make_store

T = TypeVar("T")

VERBS: dict[Verb, Callable[[Tx, Actor, ItemVerb], Outcome]] = {
    Verb.archive: deletions.archive_item,
    Verb.unarchive: deletions.unarchive_item,
    Verb.trash: deletions.trash_item,
    Verb.restore: deletions.restore_item,
    Verb.purge: deletions.purge_item,
}
WAYS = {
    State.active: (),
    State.archived: (Verb.archive,),
    State.trashed: (Verb.trash,),
    State.purged: (Verb.trash, Verb.purge),
}
"""How an object comes into each state."""

SO_ALREADY = {
    (State.active, Verb.unarchive),
    (State.active, Verb.restore),
    (State.archived, Verb.archive),
    (State.archived, Verb.restore),
    (State.trashed, Verb.trash),
    (State.purged, Verb.trash),
    (State.purged, Verb.purge),
}
"""Where the wish is fulfilled before it is made: success, and nothing changes."""


class Lab:
    """A store, its owner, and the verbs in one word each."""

    def __init__(self, folder: Path) -> None:
        self.clock = FixedClock()
        self._opened = make_store(folder, self.clock)
        self.store = self._opened.__enter__()
        self.database = self.store.database
        self.actor = make_actor(self.database)
        self.worker = make_worker(self.store)

    def close(self) -> None:
        self._opened.__exit__(None, None, None)

    def write(self, operation: Callable[..., T], command: Any, actor: Actor | None = None) -> T:
        return self.database.write(operation, actor or self.actor, command)

    def read(self, operation: Callable[..., T], command: Any, actor: Actor | None = None) -> T:
        return self.database.read(operation, actor or self.actor, command)

    def project(self, name: str = "", **fields: Any) -> Project:
        return make_project(self.database, self.actor, name, **fields)

    def run(self, project: Project | None = None, **fields: Any) -> Run:
        return make_run(self.database, self.actor, project, **({"status": Status.finished} | fields))

    def document(self, project: Project | None = None, **fields: Any) -> Document:
        return make_document(self.database, self.actor, project, **fields)

    def version(self, project: Project | None = None, **fields: Any) -> ArtifactVersion:
        command = CreateArtifactVersion(project=(project or self.project()).id, name="model", **fields)
        return self.write(artifacts.create_version, command)

    def item(self, kind: Kind) -> str:
        """The id of a new object of ``kind``."""
        make: dict[Kind, Callable[[], Item]] = {
            Kind.project: self.project,
            Kind.run: self.run,
            Kind.document: self.document,
        }
        if kind in make:
            return make[kind]().id
        version = self.version()
        return version.id if kind == Kind.artifact_version else version.parent_id

    def in_state(self, state: State) -> dict[Kind, str]:
        """The id of a new object of each kind in ``state``, none of them inside another."""
        ids = {kind: self.item(kind) for kind in Kind}
        for verb in WAYS[state]:
            self.write(deletions.apply, Apply(verb=str(verb), selection=Selection(ids=[*ids.values()])))
        if state == State.purged:
            self.worker.run_all()
        assert self.state(*ids.values()) == [state] * len(Kind)
        return ids

    def attach(self, item: Item, path: str, content: bytes) -> str:
        with files.begin(self.store, self.actor) as upload:
            upload.write(content)
            stored = upload.finish()
        files.keep(self.store, self.actor, stored)
        self.write(files.attach, AttachFile(id=item.id, path=path, digest=stored.digest, size=len(content)))
        return str(stored.digest)

    def do(self, verb: Verb, id: str, actor: Actor | None = None, **options: Any) -> Outcome:
        return self.write(VERBS[verb], ItemVerb(id=id, **options), actor)

    def trash(self, *ids: str, **options: Any) -> str:
        outcome = self.write(deletions.apply, Apply(selection=Selection(ids=list(ids)), **options))
        return str(outcome.deletion_id)

    def restore(self, deletion_id: str, **options: Any) -> Outcome:
        return self.write(deletions.restore, RestoreDeletion(id=deletion_id, **options))

    def purge(self, deletion_id: str) -> Deletion:
        self.write(deletions.purge, PurgeDeletion(id=deletion_id))
        self.worker.run_all()
        return self.deletion(deletion_id)

    def deletion(self, id: str) -> Deletion:
        return self.read(deletions.get, Get(id=id))

    def plan(self, *ids: str, **options: Any) -> Plan:
        return self.write(deletions.make_plan, MakePlan(selection=Selection(ids=list(ids)), **options))

    def rows(self, table: Any) -> list[dict[str, Any]]:
        def fetch(tx: Tx, _actor: Actor, _command: None) -> list[dict[str, Any]]:
            return [dict(row) for row in tx.all(select(table))]

        return self.database.read(fetch, self.actor, None)

    def state(self, *ids: str) -> Any:
        """The state of one object, or those of several in the order of ``ids``."""
        found = {row["id"]: row["state"] for row in self.rows(t.items)}
        return found[ids[0]] if len(ids) == 1 else [found[id] for id in ids]

    def events(self, prefix: str = "") -> list[AuditEvent]:
        page = self.read(audits.list_, ListAudit(ascending=True, limit=1_000))
        return [event for event in page.items if event.event.startswith(prefix)]


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    opened = Lab(tmp_path)
    yield opened
    opened.close()


# --- the table of the lifecycle ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("state", "verb"), [*product(State, Verb)])
def test_every_verb_in_every_state_does_what_the_table_says_or_changes_nothing(
    lab: Lab, state: State, verb: Verb
) -> None:
    ids = lab.in_state(state)
    after = TRANSITIONS.get((state, verb))
    for kind, id in ids.items():
        if after is not None:
            assert lab.do(verb, id).counts[kind] == 1
        elif (state, verb) in SO_ALREADY:
            outcome = lab.do(verb, id)
            assert (outcome.counts, outcome.already) == ({}, 1)
        else:
            _refused(lab, id, state, verb)
    if after == State.purged:
        lab.worker.run_all()
    assert lab.state(*ids.values()) == [after or state] * len(Kind)


def _refused(lab: Lab, id: str, state: State, verb: Verb) -> None:
    before = len(lab.events())
    with pytest.raises((Illegal, Gone)) as caught:
        lab.do(verb, id)
    if state in LIVE:  # only a purge is not legal there, and the error says what is
        assert isinstance(caught.value, Illegal)
        assert "trash" in caught.value.details["legal"]
    else:
        assert isinstance(caught.value, Gone)
        assert caught.value.details["by"] == lab.actor.name
    assert len(lab.events()) == before


def test_what_was_archived_comes_back_from_the_trash_archived(lab: Lab) -> None:
    id = lab.run().id
    lab.do(Verb.archive, id)
    lab.do(Verb.trash, id)
    outcome = lab.do(Verb.restore, id)
    assert (outcome.counts, outcome.items[0]["state"]) == ({"run": 1}, "archived")
    assert lab.state(id) == State.archived


def test_an_archived_object_is_read_and_not_written(lab: Lab) -> None:
    project = lab.project()
    run, document = lab.run(project), lab.document(project)
    for id in (run.id, document.id, project.id):
        lab.do(Verb.archive, id)
    assert lab.read(runs.get, Get(id=run.id)).state == State.archived
    writes: list[tuple[Callable[..., Any], Any]] = [
        (runs.update, UpdateRun(id=run.id, notes="n")),
        (documents.update, UpdateDocument(id=document.id, description="d")),
        (documents.commit, CommitVersion(id=document.id, body={})),
        (projects.update, UpdateProject(id=project.id, description="d")),
    ]
    for operation, command in writes:
        with pytest.raises(Illegal, match="unarchive it first") as caught:
            lab.write(operation, command)
        assert (caught.value.status, caught.value.details["legal"]) == (409, ["unarchive", "trash"])


def test_a_trashed_object_says_who_trashed_it_and_until_when_it_can_come_back(lab: Lab) -> None:
    project = lab.project()
    run, document = lab.run(project), lab.document(project)
    deletion_id = lab.trash(project.id)
    asked: list[tuple[Callable[..., Any], Any]] = [
        (runs.update, UpdateRun(id=run.id, notes="n")),
        (documents.commit, CommitVersion(id=document.id, body={})),
        (projects.update, UpdateProject(id=project.id, description="d")),
        (deletions.set_lock, SetLock(id=run.id, locked=True)),
        (runs.get, Get(id=run.id)),
    ]
    until = lab.deletion(deletion_id).restorable_until
    for operation, command in asked:
        with pytest.raises(Gone) as caught:
            lab.write(operation, command)
        assert caught.value.status == 410
        said = {name: caught.value.details[name] for name in ("deletion_id", "by", "restorable_until")}
        assert said == {"deletion_id": deletion_id, "by": lab.actor.name, "restorable_until": until.isoformat()}
    assert lab.read(runs.get, Get(id=run.id, include="trashed")).state == State.trashed


def test_the_trash_is_listed_with_the_days_that_are_left(lab: Lab) -> None:
    project = lab.project(settings={"grace_days": 10})
    first, second = lab.run(project), lab.document(project)
    one = lab.trash(first.id, reason="too old")
    lab.clock.advance(days=3.5)
    two = lab.trash(second.id)
    found = lab.read(deletions.trash_list, ListTrash()).items
    assert [(row.id, row.deletion_id, row.days_left) for row in found] == [(second.id, two, 10), (first.id, one, 7)]
    assert (found[1].reason, found[1].trashed_by) == ("too old", lab.actor.name)
    page = lab.read(deletions.trash_list, ListTrash(limit=1))
    rest = lab.read(deletions.trash_list, ListTrash(limit=1, cursor=page.next))
    assert [*page.items, *rest.items] == found
    assert [row.id for row in lab.read(deletions.trash_list, ListTrash(kind="run")).items] == [first.id]
    assert lab.read(runs.list_, ListRuns()).items == []


# --- plans ------------------------------------------------------------------------------------------------------------


def test_a_plan_shows_what_happens_and_applying_it_does_that(lab: Lab) -> None:
    project = lab.project("alpha")
    run, _document = lab.run(project, handle="r1", bytes=100), lab.document(project)
    plan = lab.plan(project.id)
    assert (plan.counts, plan.bytes, plan.blocked) == ({"project": 1, "run": 1, "document": 1}, 100, 0)
    assert set(plan.names_freed) == {"alpha", run.name}
    assert lab.state(project.id, run.id) == ["active", "active"], "a plan does nothing"
    outcome = lab.do(Verb.trash, project.id, plan_hash=plan.hash, reason="over", ticket="T-1")
    assert (outcome.counts, outcome.bytes, outcome.restorable_until) == (plan.counts, 100, plan.restorable_until)
    deletion = lab.deletion(str(outcome.deletion_id))
    assert (deletion.plan_hash, deletion.reason, deletion.ticket) == (plan.hash, "over", "T-1")
    assert (deletion.state, deletion.actor, deletion.project_id) == ("trashed", lab.actor.name, project.id)


def test_a_run_that_was_renamed_since_the_plan_makes_it_stale_and_the_new_plan_holds(lab: Lab) -> None:
    run = lab.run()
    plan = lab.plan(run.id)
    lab.write(runs.update, UpdateRun(id=run.id, name="renamed"))
    with pytest.raises(Stale, match="something changed") as caught:
        lab.do(Verb.trash, run.id, plan_hash=plan.hash)
    new = caught.value.details["plan"]
    assert new["hash"] == lab.plan(run.id).hash != plan.hash
    assert lab.state(run.id) == State.active
    assert lab.do(Verb.trash, run.id, plan_hash=new["hash"]).counts == {"run": 1}


@pytest.mark.parametrize("verb", ["archive", "trash", "purge", "restore"])
def test_one_more_match_of_the_query_makes_a_plan_stale(lab: Lab, verb: str) -> None:
    project = lab.project()
    ids = [lab.run(project).id for _ in range(2)]
    wanted = Selection(kind="run", project=project.id)
    lab.trash(ids[1])
    if verb in ("purge", "restore"):
        lab.trash(ids[0])
        lab.trash(lab.run(project).id)
    plan = lab.write(deletions.make_plan, MakePlan(selection=wanted, verb=verb))
    if verb in ("purge", "restore"):
        lab.trash(lab.run(project).id)
    else:
        lab.run(project)
    with pytest.raises(Stale):
        lab.write(deletions.apply, Apply(selection=wanted, verb=verb, plan_hash=plan.hash))


def test_a_plan_for_other_wishes_is_not_the_plan(lab: Lab) -> None:
    run = lab.run()
    plan = lab.plan(run.id, force=True)
    with pytest.raises(Stale):
        lab.do(Verb.trash, run.id, plan_hash=plan.hash)
    assert lab.do(Verb.trash, run.id, plan_hash=plan.hash, force=True).counts == {"run": 1}


def test_a_plan_that_is_applied_twice_answers_with_the_first_deletion(lab: Lab) -> None:
    run, other = lab.run(), lab.run()
    plan = lab.plan(run.id, other.id)
    command = Apply(selection=Selection(ids=[run.id, other.id]), plan_hash=plan.hash)
    first = lab.write(deletions.apply, command)
    again = lab.write(deletions.apply, command)
    assert (again.counts, again.already, again.deletion_id, again.undo) == ({}, 2, first.deletion_id, first.undo)
    assert len(lab.read(deletions.list_, ListDeletions()).items) == 1


def test_what_is_in_the_trash_already_answers_with_its_own_deletion(lab: Lab) -> None:
    run, other = lab.run(), lab.run()
    deletion_id = lab.trash(run.id)
    again = lab.do(Verb.trash, run.id)
    assert (again.already, again.deletion_id, again.undo) == (1, deletion_id, deletion_id)
    assert again.restorable_until == lab.deletion(deletion_id).restorable_until
    both = lab.write(deletions.apply, Apply(selection=Selection(ids=[run.id, other.id])))
    assert (both.counts, both.already) == ({"run": 1}, 1)
    assert both.deletion_id != deletion_id


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"verb": "shred"}, "verb"),
        ({"on_running": "kill"}, "on_running"),
        ({"selection": Selection()}, "selection"),
        ({"selection": Selection(kind="key", q='name = "x"')}, "selection.kind"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(lab: Lab, fields: dict[str, Any], path: str) -> None:
    command = MakePlan(**({"selection": Selection(ids=[lab.run().id])} | fields))
    with pytest.raises(Invalid) as caught:
        lab.write(deletions.make_plan, command)
    assert caught.value.details["path"] == path


# --- what stands in the way -------------------------------------------------------------------------------------------


def blocked(lab: Lab, error: type[Conflict], id: str, override: str, **options: Any) -> str:
    """Trash is refused by plan and deed, with the same blocker; answers the reason."""
    (shown,) = lab.plan(id, **options).blockers
    with pytest.raises(error) as caught:
        lab.do(Verb.trash, id, **options)
    assert (caught.value.details["blocked"], caught.value.details["override"]) == (1, override)
    assert caught.value.details["blockers"][0]["reason"] == shown.reason
    assert shown.override == override
    assert lab.state(shown.id) == State.active
    return shown.reason


def test_a_running_run_is_trashed_only_when_it_may_be_stopped(lab: Lab) -> None:
    run = lab.run(status=Status.running)
    assert "is running" in blocked(lab, Illegal, run.id, "on_running=stop")
    assert "is running" in blocked(lab, Illegal, run.project_id or "", "on_running=stop", force=True)
    assert lab.plan(run.id, on_running="stop").stops == 1
    lab.do(Verb.trash, run.id, on_running="stop")
    stopped = lab.read(runs.get, Get(id=run.id, include="trashed"))
    assert (stopped.status, stopped.finished_at) == (Status.stopped, lab.clock.now)


def test_a_running_experiment_is_stopped_with_its_runs(lab: Lab) -> None:
    experiment = lab.document(status="running")
    run = lab.run(status=Status.running, document_id=experiment.id)
    assert "is running" in blocked(lab, Illegal, experiment.id, "on_running=stop")
    lab.do(Verb.trash, experiment.id, on_running="stop")
    assert lab.read(documents.get, Get(id=experiment.id, include="trashed")).status == "stopped"
    assert lab.read(runs.get, Get(id=run.id)).status == Status.stopped


def test_a_locked_run_is_trashed_only_after_it_is_unlocked(lab: Lab) -> None:
    run = lab.run()
    lab.write(deletions.set_lock, SetLock(id=run.id, locked=True, reason="published"))
    assert "is locked" in blocked(lab, Held, run.id, "", force=True, on_running="stop")
    assert "is locked" in blocked(lab, Held, run.project_id or "", "", force=True)
    lab.write(deletions.set_lock, SetLock(id=run.id, locked=False))
    assert lab.do(Verb.trash, run.id).counts == {"run": 1}
    assert [event.event for event in lab.events("run.") if "lock" in event.event] == ["run.locked", "run.unlocked"]


def bound(lab: Lab) -> tuple[Project, Document]:
    """A prompt of which a version is in production."""
    project = lab.project("alpha")
    command = CreateDocument(project=project.id, type="prompt", name="greeting", body={"x": 1})
    document = lab.write(documents.create, command)
    lab.write(environments.bind, BindEnvironment(project="alpha", name="production", document_id=document.id))
    return project, document


def in_production(lab: Lab) -> tuple[str | None, int | None]:
    found = lab.read(environments.get, GetEnvironment(project="alpha", name="production"))
    return found.document_id, found.number


def test_a_document_that_an_environment_uses_is_unbound_by_force_and_bound_again_by_restoring(lab: Lab) -> None:
    _project, document = bound(lab)
    assert "environment production" in blocked(lab, InUse, document.id, "force")
    (unbinds,) = lab.plan(document.id, force=True).unbinds
    assert (unbinds["type"], unbinds["name"], unbinds["item_id"]) == ("environment", "production", document.id)
    deletion_id = lab.trash(document.id, force=True)
    assert in_production(lab) == (None, None)
    assert lab.restore(deletion_id).not_rebound == []
    assert in_production(lab) == (document.id, 1)
    words = [event.event.partition(".")[2] for event in lab.events("environment.")]
    assert words == ["bound", "unbound", "bound"]


def test_an_environment_that_is_bound_elsewhere_by_now_stays_so_and_is_reported(lab: Lab) -> None:
    project, document = bound(lab)
    deletion_id = lab.trash(document.id, force=True)
    other = lab.write(documents.create, CreateDocument(project=project.id, type="prompt", name="other", body={}))
    lab.write(environments.bind, BindEnvironment(project="alpha", name="production", document_id=other.id))
    (left,) = lab.restore(deletion_id).not_rebound
    assert (left["type"], left["item_id"]) == ("environment", document.id)
    assert left["reason"] == f"environment production is bound to {other.id} now"
    assert in_production(lab) == (other.id, 1)
    assert lab.state(document.id) == State.active


def test_a_project_takes_its_environments_with_it_without_being_asked(lab: Lab) -> None:
    project, document = bound(lab)
    assert lab.plan(project.id).blocked == 0
    lab.restore(lab.trash(project.id))
    assert in_production(lab) == (document.id, 1)


@pytest.mark.parametrize("on_delete", list(OnDelete))
def test_a_link_says_what_trashing_its_target_does(lab: Lab, on_delete: OnDelete) -> None:
    source, target = lab.run(), lab.document()
    command = CreateLink(source_id=source.id, target_id=target.id, type="uses", on_delete=on_delete)
    made = lab.write(environments.link, command)
    restricts = on_delete == OnDelete.restrict
    if restricts:
        assert f"uses of {source.name}" in blocked(lab, InUse, target.id, "force")
    deletion_id = lab.trash(target.id, force=restricts)
    links = lab.read(environments.list_links, ListLinks(id=target.id)).items
    assert bool(links) == (on_delete in (OnDelete.cascade, OnDelete.keep))
    assert lab.state(source.id) == ("trashed" if on_delete == OnDelete.cascade else "active")
    lab.restore(deletion_id)
    assert lab.state(source.id, target.id) == ["active", "active"]
    assert [link.id for link in lab.read(environments.list_links, ListLinks(id=source.id)).items] == [made.id]


def test_what_goes_itself_is_in_nobodys_way(lab: Lab) -> None:
    base = lab.run()
    newer, document = lab.run(base_run_id=base.id), lab.document()
    lab.write(environments.link, CreateLink(source_id=newer.id, target_id=document.id, type="uses"))
    assert lab.plan(base.id, document.id).blocked == 2
    assert lab.plan(base.id, document.id, newer.id).blocked == 0
    lab.trash(newer.id)
    assert lab.plan(base.id, document.id).blocked == 0, "what is in the trash needs nothing"


def test_a_base_run_is_kept_for_the_runs_that_name_it_unless_forced(lab: Lab) -> None:
    base = lab.run()
    newer = lab.run(base_run_id=base.id)
    assert f"base of run {newer.name}" in blocked(lab, InUse, base.id, "force")
    lab.do(Verb.trash, base.id, force=True)
    assert lab.read(runs.get, Get(id=newer.id)).base_run_id == base.id


def test_an_alias_protects_a_version_and_not_its_collection(lab: Lab) -> None:
    version = lab.version()
    assert lab.plan(version.id).blocked == 0, "latest moves by itself"
    lab.write(artifacts.set_aliases, SetAliases(id=version.id, add=("best",)))
    assert "alias best" in blocked(lab, InUse, version.id, "force")
    assert lab.plan(version.parent_id).counts == {"artifact": 1, "artifact_version": 1}
    lab.restore(lab.trash(version.id, force=True))
    assert set(lab.read(artifacts.get_version, Get(id=version.id)).aliases) >= {"best"}


def test_nothing_goes_when_one_of_many_must_stay(lab: Lab) -> None:
    project = lab.project()
    ids = [lab.run(project, locked=locked).id for locked in (False, True, True)]
    with pytest.raises(Held, match="and 1 more") as caught:
        lab.do(Verb.trash, project.id)
    assert {one["id"] for one in caught.value.details["blockers"]} == set(ids[1:])
    assert lab.state(*ids) == ["active"] * 3
    assert lab.read(deletions.list_, ListDeletions()).items == []


# --- containers and names ---------------------------------------------------------------------------------------------


def test_a_project_goes_and_comes_back_with_exactly_what_went_with_it(lab: Lab) -> None:
    project = lab.project()
    plain, archived, earlier = (lab.run(project) for _ in range(3))
    document, version = lab.document(project), lab.version(project)
    bystander = lab.run()
    lab.do(Verb.archive, archived.id)
    before = lab.trash(earlier.id)
    deletion_id = lab.trash(project.id)
    went = [project.id, plain.id, archived.id, document.id, version.parent_id, version.id]
    assert lab.state(*went, earlier.id, bystander.id) == ["trashed"] * 7 + ["active"]
    members = lab.read(deletions.members, ListMembersOf(id=deletion_id)).items
    assert {member.item_id for member in members} == set(went)
    with pytest.raises(Illegal, match=f"restore deletion {deletion_id} first"):
        lab.restore(before)
    assert sum(lab.restore(deletion_id).counts.values()) == 6
    assert lab.state(*went, earlier.id) == ["active", "active", "archived", "active", "active", "active", "trashed"]
    assert lab.deletion(deletion_id).state == "restored"
    assert lab.deletion(before).state == "trashed"
    assert lab.restore(before).counts == {"run": 1}


def test_restoring_a_project_by_its_own_id_leaves_what_was_trashed_before_it(lab: Lab) -> None:
    project = lab.project()
    with_it, earlier = lab.run(project), lab.run(project)
    lab.trash(earlier.id)
    lab.trash(project.id)
    assert lab.do(Verb.restore, project.id).counts == {"project": 1, "run": 1}
    assert lab.state(project.id, with_it.id, earlier.id) == ["active", "active", "trashed"]


def test_a_part_of_a_deletion_comes_back_and_the_rest_later(lab: Lab) -> None:
    one, two = lab.run(), lab.run()
    deletion_id = lab.trash(one.id, two.id)
    assert lab.restore(deletion_id, ids=[one.id]).counts == {"run": 1}
    assert (lab.state(one.id, two.id), lab.deletion(deletion_id).state) == (["active", "trashed"], "trashed")
    with pytest.raises(NotFound, match="does not belong"):
        lab.restore(deletion_id, ids=[lab.run().id])
    assert lab.restore(deletion_id).counts == {"run": 1}
    again = lab.restore(deletion_id)
    assert (lab.deletion(deletion_id).state, again.counts, again.already) == ("restored", {}, 1)


def test_nothing_comes_back_alone_into_a_project_that_stays_in_the_trash(lab: Lab) -> None:
    run = lab.run()
    deletion_id = lab.trash(str(run.project_id))
    with pytest.raises(Illegal, match="cannot come back"):
        lab.do(Verb.restore, run.id)
    assert lab.restore(deletion_id, ids=[str(run.project_id)]).counts == {"project": 1}
    assert lab.do(Verb.restore, run.id).counts == {"run": 1}


def test_a_name_is_free_from_the_trash_on_and_restoring_onto_it_offers_another(lab: Lab) -> None:
    home = lab.project()
    makers: dict[Kind, Callable[[], Item]] = {
        Kind.project: lambda: lab.project("taken"),
        Kind.run: lambda: lab.run(home, name="taken", handle="taken"),
        Kind.document: lambda: lab.document(home, name="taken", handle="taken"),
    }
    for kind, make in makers.items():
        old = make()
        deletion_id = lab.trash(old.id)
        holder = make()
        with pytest.raises(AlreadyExists, match=f"{kind} 'taken' exists again") as caught:
            lab.restore(deletion_id)
        (offer,) = caught.value.details["taken"]
        assert (offer["id"], offer["name"], offer["taken_by"]) == (old.id, "taken", holder.id)
        assert lab.state(old.id) == State.trashed
        lab.restore(deletion_id, names={old.id: offer["suggestion"]})
        back = lab.read(deletions.get_item, Get(id=old.id))
        assert (back.name, back.handle) == (offer["suggestion"], offer["suggestion"])


def test_new_names_are_checked_like_the_old_ones(lab: Lab) -> None:
    old, live = lab.project("old"), lab.project("live")
    deletion_id = lab.trash(old.id)
    with pytest.raises(AlreadyExists, match="'live' exists again"):
        lab.restore(deletion_id, names={old.id: "live"})
    with pytest.raises(NotFound, match="not among what comes back"):
        lab.restore(deletion_id, names={live.id: "other"})
    assert lab.read(deletions.get_item, Get(id=old.id, include="trashed")).name == "old"


# --- purging ----------------------------------------------------------------------------------------------------------


def test_a_purge_leaves_a_tombstone_that_says_nothing_of_the_content(lab: Lab) -> None:
    secret = "correct-horse"
    everywhere: dict[str, Any] = dict.fromkeys(("name", "handle", "description", "notes", "group"), secret)
    objects: dict[str, Any] = {name: {secret: secret} for name in ("config", "summary", "metadata", "extra")}
    run = lab.run(tags=(secret,), **everywhere, **objects)
    document = lab.write(
        documents.create,
        CreateDocument(project=str(run.project_id), type="prompt", name=f"{secret}-d", body={secret: secret}),
    )
    lab.attach(run, f"{secret}.txt", secret.encode())
    lab.clock.advance(minutes=1)
    lab.plan(run.id)
    deletion = lab.purge(lab.trash(run.id, document.id))
    assert lab.state(run.id, document.id) == ["purged", "purged"]
    for table in t.metadata.sorted_tables:
        assert secret not in repr(lab.rows(table)), table.name
    (tombstone,) = (row for row in lab.rows(t.items) if row["id"] == run.id)
    blank: dict[str, Any] = {
        "name": "",
        "handle": None,
        "description": "",
        "tags": (),
        "metadata": {},
        "extra": {},
        "bytes": 0,
    }
    assert {name: tombstone[name] for name in blank} == blank
    with pytest.raises(Gone, match="it cannot be restored"):
        lab.read(runs.get, Get(id=run.id, include="trashed"))
    with pytest.raises(Illegal, match="cannot be restored"):
        lab.restore(deletion.id)


def test_a_purge_records_what_it_verified_and_keeps_what_others_share(lab: Lab) -> None:
    going, staying = lab.run(), lab.run()
    lab.attach(going, "own", b"only here")
    shared = lab.attach(going, "shared", b"in both")
    lab.attach(staying, "shared", b"in both")
    lab.clock.advance(minutes=1)
    plan = lab.plan(going.id)
    assert plan.freed_bytes == len(b"only here")
    deletion_id = lab.trash(going.id)
    asked = lab.write(deletions.purge, PurgeDeletion(id=deletion_id))
    waiting = lab.deletion(deletion_id)
    assert (waiting.state, waiting.purged_by, waiting.commitment) == ("purging", lab.actor.name, "")
    assert lab.write(deletions.purge, PurgeDeletion(id=deletion_id)).job_id == asked.job_id
    lab.worker.run_all()
    done = lab.deletion(deletion_id)
    assert (done.state, done.purged_at, len(done.commitment)) == ("purged", lab.clock.now, 64)
    found = {name: done.verification[name] for name in ("rows_left", "blobs_removed", "blobs_left")}
    assert found == {"rows_left": 0, "blobs_removed": 1, "blobs_left": 0}
    assert done.verification["freed_bytes"] >= plan.freed_bytes
    assert [row["digest"] for row in lab.rows(t.blobs)] == [shared]
    assert lab.store.blobs.size(lab.actor.organization_id, shared) == len(b"in both")
    words = ["purge_requested", "purge_committed", "purged"]
    assert [event.event for event in lab.events("run.")][-3:] == [f"run.{word}" for word in words]


@pytest.mark.parametrize("background", [False, True])
def test_what_an_artifact_holds_is_taken_once_when_its_project_is_named_as_well(lab: Lab, background: bool) -> None:
    project = lab.project()
    version = lab.version(project, aliases=())
    deletion_id = lab.trash(version.parent_id, project.id, background=background, force=True)
    lab.worker.run_all()
    assert lab.deletion(deletion_id).counts == {"project": 1, "artifact": 1, "artifact_version": 1}
    assert lab.restore(deletion_id).counts == {"project": 1, "artifact": 1, "artifact_version": 1}


def test_purging_a_part_splits_the_deletion_and_the_rest_can_come_back(lab: Lab) -> None:
    one, two = lab.run(bytes=1), lab.run(bytes=2)
    deletion_id = lab.trash(one.id, two.id, reason="both")
    outcome = lab.do(Verb.purge, one.id)
    assert outcome.deletion_id != deletion_id
    lab.worker.run_all()
    part, rest = lab.deletion(str(outcome.deletion_id)), lab.deletion(deletion_id)
    assert (part.state, part.counts, part.bytes, part.reason) == ("purged", {"run": 1}, 1, "both")
    assert (rest.state, rest.counts, rest.bytes) == ("trashed", {"run": 1}, 2)
    assert lab.restore(deletion_id).counts == {"run": 1}
    assert lab.state(one.id, two.id) == ["purged", "active"]


def test_a_purged_project_takes_what_was_trashed_before_it(lab: Lab) -> None:
    project = lab.project()
    earlier, with_it = lab.run(project), lab.run(project)
    lab.trash(earlier.id)
    lab.trash(project.id)
    outcome = lab.do(Verb.purge, project.id)
    assert (outcome.counts, len(outcome.job_ids)) == ({"project": 1, "run": 2}, 2)
    lab.worker.run_all()
    assert lab.state(project.id, earlier.id, with_it.id) == ["purged"] * 3


def test_a_project_has_its_own_grace_period_when_it_is_a_number_of_days(lab: Lab) -> None:
    for asked, days in ((7, 7), (0, 0), (None, 30), (True, 30), (-1, 30), ("7", 30), (4_000, 30)):
        run = lab.run(lab.project(settings={"grace_days": asked}))
        until = lab.deletion(lab.trash(run.id)).restorable_until
        assert (until - lab.clock.now).days == days, asked


def test_the_longest_grace_period_counts_for_what_goes_together(lab: Lab) -> None:
    ids = [lab.run(lab.project(settings={"grace_days": days})).id for days in (3, 60, 7)]
    assert (lab.deletion(lab.trash(*ids)).restorable_until - lab.clock.now).days == 60


def test_what_is_overdue_is_purged_and_nothing_else(lab: Lab) -> None:
    short, long = (lab.run(lab.project(settings={"grace_days": days})) for days in (5, 10))
    stranger = make_actor(lab.database, organization="other")
    theirs = make_run(lab.database, stranger, status=Status.finished)
    lab.do(Verb.trash, theirs.id, stranger)
    ids = [lab.trash(run.id) for run in (short, long)]
    lab.clock.advance(days=5, seconds=-1)
    assert lab.write(purges.schedule_overdue, 10) == 0
    lab.clock.advance(seconds=1)
    assert lab.write(purges.schedule_overdue, 10) == 1
    lab.worker.run_all()
    assert [lab.deletion(id).state for id in ids] == ["purged", "trashed"]
    assert lab.deletion(ids[0]).purged_by == "grace period"
    lab.clock.advance(days=100)
    assert [lab.write(purges.schedule_overdue, 1) for _ in range(3)] == [1, 1, 0], "of every organization"
    lab.worker.run_all()
    assert lab.state(short.id, long.id, theirs.id) == ["purged"] * 3


# --- who may ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("role", "agent"), [*product(Role, (False, True))])
def test_each_role_does_through_operations_what_the_table_allows(lab: Lab, role: Role, agent: bool) -> None:
    actor = make_actor(lab.database, role, agent=agent)
    starts = dict(zip(Verb, (State.active, State.archived, State.active, State.trashed, State.trashed), strict=True))
    for verb in Verb:
        for kind, id in lab.in_state(starts[verb]).items():
            if allows(actor, f"{kind}.{'archive' if verb == Verb.unarchive else verb}"):
                assert lab.do(verb, id, actor).counts[kind] == 1
                continue
            with pytest.raises(Forbidden, match=f"lacks {kind}"):
                lab.do(verb, id, actor)
            assert lab.state(id) == starts[verb]


def test_an_agent_trashes_and_restores_and_never_purges(lab: Lab) -> None:
    agent = make_actor(lab.database, agent=True)
    run = lab.run()
    deletion_id = str(lab.do(Verb.trash, run.id, agent).deletion_id)
    assert lab.deletion(deletion_id).actor == f"{agent.user} (agent)"
    wishes: list[tuple[Callable[..., Any], Any]] = [
        (deletions.purge, PurgeDeletion(id=deletion_id)),
        (deletions.purge_item, ItemVerb(id=run.id)),
        (deletions.apply, Apply(verb="purge", selection=Selection(ids=[run.id]))),
        (deletions.apply, Apply(verb="purge", selection=Selection(deletion_id=deletion_id))),
    ]
    for operation, command in wishes:
        with pytest.raises(Forbidden, match="agent keys never have it"):
            lab.write(operation, command, agent)
    assert lab.worker.run_all() == 0
    assert lab.do(Verb.restore, run.id, agent).counts == {"run": 1}


def test_a_deletion_is_restored_or_purged_only_by_who_may_do_so_with_all_that_it_holds(lab: Lab) -> None:
    project = lab.project()
    lab.run(project)
    deletion_id = lab.trash(project.id)
    with pytest.raises(Forbidden, match=r"project\.purge"):
        lab.write(deletions.purge, PurgeDeletion(id=deletion_id), make_actor(lab.database, "maintainer"))
    with pytest.raises(Forbidden, match=r"\.restore"):
        lab.write(deletions.restore, RestoreDeletion(id=deletion_id), make_actor(lab.database, "viewer"))
    assert lab.deletion(deletion_id).state == "trashed"


@pytest.mark.parametrize(("organization", "workspace"), [("organization", "other"), ("other", "workspace")])
def test_an_object_of_another_workspace_is_not_found_by_any_verb(lab: Lab, organization: str, workspace: str) -> None:
    stranger = make_actor(lab.database, organization=organization, workspace=workspace)
    live, gone = lab.run(), lab.run()
    deletion_id = lab.trash(gone.id)
    asked: list[tuple[Callable[..., Any], Any]] = [
        *((VERBS[verb], ItemVerb(id=id)) for verb, id in product(Verb, (live.id, gone.id))),
        *((deletions.get_item, Get(id=id, include="trashed")) for id in (live.id, gone.id)),
        (deletions.set_lock, SetLock(id=live.id, locked=True)),
        (deletions.make_plan, MakePlan(selection=Selection(ids=[live.id]))),
        (deletions.make_plan, MakePlan(selection=Selection(project=str(live.project_id)))),
        (deletions.apply, Apply(verb="purge", selection=Selection(deletion_id=deletion_id))),
        (deletions.restore, RestoreDeletion(id=deletion_id)),
        (deletions.purge, PurgeDeletion(id=deletion_id)),
        (deletions.get, Get(id=deletion_id)),
        (deletions.members, ListMembersOf(id=deletion_id)),
        (runs.get, Get(id=live.id)),
        (runs.update, UpdateRun(id=live.id, notes="n")),
    ]
    for operation, command in asked:
        with pytest.raises(NotFound):
            lab.write(operation, command, stranger)
    assert lab.read(deletions.list_, ListDeletions(), stranger).items == []
    assert lab.read(deletions.trash_list, ListTrash(), stranger).items == []
    assert lab.state(live.id, gone.id) == ["active", "trashed"]


# --- the audit chain --------------------------------------------------------------------------------------------------


def lived(lab: Lab) -> str:
    """A run's whole life; answers its id."""
    run = lab.run()
    for verb in (Verb.archive, Verb.unarchive, Verb.trash, Verb.restore, Verb.trash, Verb.purge):
        lab.do(verb, run.id, reason=f"for {verb}")
    lab.worker.run_all()
    return run.id


def verify(lab: Lab) -> AuditReport:
    return lab.read(audits.verify, Nothing())


def test_the_life_of_a_run_is_in_the_audit_chain_with_reasons_and_deletions(lab: Lab) -> None:
    id = lived(lab)
    found = lab.read(audits.list_, ListAudit(id=id, ascending=True)).items
    words = ["archived", "unarchived", "trashed", "restored", "trashed", "purge_requested", "purge_committed", "purged"]
    assert [event.event for event in found] == [f"run.{word}" for word in words]
    assert [event.reason for event in found[:4]] == ["for archive", "for unarchive", "for trash", "for restore"]
    assert len({event.deletion_id for event in found if event.deletion_id}) == 2
    assert found[-1].details["commitment"] == lab.deletion(found[-1].deletion_id).commitment
    report = verify(lab)
    assert (report.intact, report.first_break, report.events) == (True, None, lab.events()[-1].seq)
    assert report.head == lab.events()[-1].hash


def test_an_event_that_was_changed_breaks_the_chain_where_it_stands(lab: Lab) -> None:
    lived(lab)

    def write(tx: Tx, actor: Actor, values: dict[str, Any]) -> None:
        c = t.audit_events.c
        mine = (c.organization_id == actor.organization_id, c.seq == 3)
        assert tx.execute(update(t.audit_events).where(*mine).values(values)).rowcount == 1

    (before,) = (row for row in lab.rows(t.audit_events) if row["seq"] == 3)
    changed: dict[str, Any] = {"actor": "x", "reason": "x", "event": "x", "count": 99, "details": {"x": 1}}
    for name, value in (changed | {"previous": "f" * 64, "hash": "f" * 64}).items():
        lab.write(write, {name: value})
        report = verify(lab)
        assert (report.intact, report.first_break) == (False, 3), name
        lab.write(write, {name: before[name]})
    assert verify(lab).intact


def test_an_event_that_was_taken_out_is_missed_wherever_it_stood(lab: Lab) -> None:
    lived(lab)

    def take_out(tx: Tx, actor: Actor, seq: int) -> None:
        c = t.audit_events.c
        tx.execute(delete(t.audit_events).where(c.organization_id == actor.organization_id, c.seq == seq))

    for seq in (lab.events()[-1].seq, 4, 1):  # each before the one that is missed already
        lab.write(take_out, seq)
        assert verify(lab).first_break == seq


def test_only_maintainers_read_and_verify_the_chain_and_each_organization_has_its_own(lab: Lab) -> None:
    lived(lab)
    editor, stranger = make_actor(lab.database, "editor"), make_actor(lab.database, organization="other")
    for operation, command in ((audits.verify, Nothing()), (audits.list_, ListAudit())):
        with pytest.raises(Forbidden, match=r"audit\.read"):
            lab.read(operation, command, editor)
    report = lab.read(audits.verify, Nothing(), stranger)
    assert (report.intact, report.events) == (True, 0)
    assert lab.read(audits.list_, ListAudit(), stranger).items == []


def test_a_refused_verb_leaves_no_event(lab: Lab) -> None:
    run = lab.run(locked=True)
    before = verify(lab)
    for verb in (Verb.trash, Verb.purge):
        with pytest.raises(LabkeepError):
            lab.do(verb, run.id)
    assert verify(lab) == before


def test_an_environment_never_stays_bound_to_what_was_purged(lab: Lab) -> None:
    project = lab.project("p")
    document = lab.document(project)
    lab.write(documents.commit, CommitVersion(id=document.id, body={"a": 1}))
    lab.write(environments.bind, BindEnvironment(project=project.id, name="production", document_id=document.id))
    deletion_id = lab.trash(project.id)
    lab.restore(deletion_id, ids=[project.id])
    lab.purge(deletion_id)
    bound = lab.read(environments.get, GetEnvironment(project=project.id, name="production"))
    assert (bound.document_id, bound.number) == (None, None)

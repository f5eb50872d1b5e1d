"""A word of its own in every field of everything. After a purge not one of them is anywhere in the data folder: not in
the database, its log or its index of that log, not in a blob, not in a temporary file, not inside of anything compressed.

SQLite is as its upstream builds are: it overwrites nothing unless it is asked to.
"""

from __future__ import annotations

import os
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from labkeep import Labkeep
from tests.fault.content_columns import PLANTED, REASONS, columns_with, content_columns
from tests.fault.processes import SHIM, Site, find, wait_for_jobs


def upstream_site(folder: Path, mode: str = "upstream") -> Site:
    path = os.pathsep.join(filter(None, [str(SHIM), os.environ.get("PYTHONPATH", "")]))
    return Site(folder, LABKEEP_SEAL_MIN_ROWS="5", PYTHONPATH=path, UPSTREAM_SQLITE=mode)


class Planter:
    """Makes objects whose every field holds a word of its own."""

    def __init__(self, client: Labkeep, project: str) -> None:
        self.client, self.project = client, project
        self.words: list[str] = []
        self.overwritten: list[str] = []
        """Words that a later write replaced: nothing needs them on disk any more, and they may be gone already."""
        self._numbers = count(100)

    def word(self, field: str) -> str:
        self.words.append(f"canary-{next(self._numbers)}-{field}-canary")
        return self.words[-1]

    def gone_word(self, field: str) -> str:
        self.overwritten.append(f"canary-{next(self._numbers)}-{field}-overwritten-canary")
        return self.overwritten[-1]

    def tree(self, field: str) -> dict[str, Any]:
        """Words as keys, as values, and deep inside."""
        inner = [1, None, {self.word(f"{field}-deep-key"): self.word(f"{field}-deep-value")}]
        return {self.word(f"{field}-key"): self.word(f"{field}-value"), "list": inner, "number": 1.5}

    def common(self, kind: str) -> dict[str, Any]:
        return {
            "description": self.word(f"{kind}-description"),
            "tags": [self.word(f"{kind}-tag"), self.word(f"{kind}-tag")],
            "metadata": self.tree(f"{kind}-metadata"),
        }

    # --- each kind of object

    def run(self) -> str:
        c, w = self.client, self.word
        run = c.runs.create(
            self.project,
            name=w("run-name"),
            handle=w("run-handle"),
            type=w("run-type"),
            config=self.tree("config") | {"old": self.gone_word("config")},
            summary=self.tree("summary"),
            notes=self.gone_word("notes"),
            group=w("group"),
            job_type=w("job-type"),
            extra=self.tree("run-extra"),
            **self.common("run"),
        )
        c.runs.update(run.id, notes=w("notes") + "x" * 9_000, config={"old": None}, add_tags=[w("added-tag")])
        self._history(run.id)
        self._rows(run.id)
        self._files(run.id)
        c.runs.finish(run.id, summary={"last": w("last-summary")})
        wait_for_jobs(c)  # sealed by now; what follows is not
        c.runs.append_history(run.id, [{"_step": 90, w("late-key"): w("late-string")}])
        c.runs.append_history(run.id, [{"_step": 91, "x": 1}], stream=w("late-stream"))
        return run.id

    def _history(self, id: str) -> None:
        c, w = self.client, self.word
        stream, console = w("stream"), [{"_step": n, "line": w("console")} for n in range(3)]
        c.runs.append_history(id, [{"_step": 0, "said": self.gone_word("history-string")}], offset=0)
        for word in (self.gone_word, w):  # the second time in place of the first
            rows = [{"_step": n, word("history-key"): word("history-string"), "loss": 0.5} for n in range(6)]
            c.runs.append_history(id, rows, offset=0)
        c.runs.append_history(id, console, stream="console", offset=0)
        rows = [{"_step": n, w("stream-key"): [w("stream-list")]} for n in range(6)]
        c.runs.append_history(id, rows, stream=stream, offset=0)

    def _rows(self, id: str) -> None:
        c, w = self.client, self.word
        row_id, trace = w("row-id"), w("row-root")
        data = {"input": w("row-old-state") + "y" * 3_000, "scores": {w("score"): 0.5}}
        c.rows.write(id, [{"id": row_id, "root_id": trace, "data": data}])
        c.rows.write(id, [{"id": row_id, "data": {w("row-key"): w("row-value")}, "merge": True}])
        c.rows.write(id, [{"id": w("deleted-row-id"), "data": {"output": w("deleted-row-value")}}])
        c.rows.write(id, [{"id": self.words[-2], "delete": True}])

    def _files(self, id: str) -> None:
        c, w = self.client, self.word
        c.files.upload(id, "replaced.txt", self.gone_word("file-content").encode())
        c.files.upload(id, "replaced.txt", w("replacing-content").encode())
        c.files.upload(id, f"{w('folder')}/{w('file-name')}.bin", w("file-content").encode() * 40_000)
        c.files.upload(id, "typed", b"1", media_type=f"text/{w('media-type')}")

    def artifact(self, run_id: str) -> str:
        c, w = self.client, self.word
        digest = c.blobs.upload(w("artifact-content").encode())
        files = [{"path": w("artifact-path"), "digest": digest}]
        files.append({"path": "elsewhere", "digest": f"s3://{w('reference')}"})
        version = c.artifacts.create(
            self.project,
            w("artifact-name"),
            type=w("artifact-type"),
            files=files,
            aliases=[w("alias")],
            run_id=run_id,
            **self.common("artifact"),
        )
        c.artifacts.set_aliases(version.id, add=[w("added-alias")])
        return version.parent_id

    def document(self) -> str:
        c, w = self.client, self.word
        document = c.documents.create(
            self.project,
            w("document-type"),
            w("document-name"),
            handle=w("document-handle"),
            status=w("document-status"),
            extra=self.tree("document-extra"),
            body=self.tree("body"),
            message=w("message"),
            **self.common("document"),
        )
        c.documents.commit(document.id, self.tree("second-body"), message=w("second-message"))
        c.documents.update(document.id, name=w("document-new-name"))
        self._rows(document.id)
        self._files(document.id)
        return document.id

    def experiment(self) -> list[str]:
        """An experiment and the run that its start made, which has its name and is an object of its own."""
        c, w = self.client, self.word
        variants = [{"name": w("variant"), "parameters": self.tree("variant")}]
        made = c.experiments.create(
            name=w("experiment-name"),
            description=w("experiment-description"),
            variants=variants,
            metadata=self.tree("experiment-metadata"),
            tags=[w("experiment-tag")],
            project=self.project,
        )
        c.experiments.start(made["id"])
        c.experiments.stop(made["id"])
        return [str(made["id"]), *(run.id for run in c.runs.list(self.project, name=made["name"]))]

    def policy(self) -> dict[str, Any]:
        """What a retention policy says, in words of its own."""
        return {"q": f'name = "{self.word("policy-query")}"', "older_than": "30d"}

    def everything(self) -> list[str]:
        """One of each kind, bound and linked; answers the ids."""
        run_id, document_id = self.run(), self.document()
        self.client.links.create(run_id, document_id, self.word("link-type"), on_delete="unbind")
        return [run_id, document_id, self.artifact(run_id), *self.experiment()]


def assert_planted(site: Site, planter: Planter) -> None:
    """The search is worth something: it finds every word that is still needed."""
    assert set(planter.words) - set(find(site.data, planter.words)) == set()


def assert_gone(site: Site, planter: Planter) -> None:
    assert find(site.data, planter.words + planter.overwritten) == {}


def test_nothing_of_purged_objects_is_left(tmp_path: Path) -> None:
    site = upstream_site(tmp_path)
    with site.running() as server, server.client() as client:
        client.projects.create("stays")
        bystander = client.runs.create("stays", name="bystander", config={"kept": "bystander-config"})
        planter = Planter(client, "stays")
        ids = planter.everything()
        assert_planted(site, planter)
        name = client.runs.get(ids[0]).name
        client.plan("trash", q=f'name = "{name}"', project="stays")
        client.plan("trash", ids=ids, force=True)
        outcome = client.apply("trash", ids=ids, force=True, reason="the test asked")
        client.plan("purge", deletion_id=outcome.deletion_id)
        client.plan("restore", ids=ids)
        assert_planted(site, planter)
        client.deletions.purge(outcome.deletion_id)
        wait_for_jobs(client)
        assert client.deletions.get(outcome.deletion_id).state == "purged"
        assert_gone(site, planter)
        assert client.runs.get(bystander.id) == bystander
    assert_gone(site, planter)
    assert "bystander-config" in find(site.data, ["bystander-config"])
    site.assert_sound()


def test_nothing_of_a_purged_project_is_left(tmp_path: Path) -> None:
    site = upstream_site(tmp_path)
    with site.running() as server, server.client() as client:
        bystander = client.runs.create("other", name="bystander", config={"kept": "bystander-config"})
        planter = Planter(client, "")
        project = client.projects.create(
            planter.word("project-name"),
            settings=planter.tree("project-settings"),
            extra=planter.tree("project-extra"),
            **planter.common("project"),
        )
        planter.project = project.id
        client.projects.update(project.id, name=planter.word("project-new-name"))
        _, document_id, *_ = planter.everything()
        client.links.create(bystander.id, document_id, planter.word("outer-link-type"), on_delete="unbind")
        client.environments.bind(project.id, planter.word("environment"), document_id, number=1)
        early = planter.run()
        client.plan("trash", ids=[project.id], force=True)
        client.policies.create(planter.word("policy-name"), planter.policy(), project=project.id, enabled=False)
        client.runs.trash(early)  # in the trash on its own, and still inside of the project
        assert_planted(site, planter)
        planted = columns_with(site.data / "labkeep.db", b"canary-")
        outcome = client.projects.trash(project.id, force=True)
        planted |= columns_with(site.data / "labkeep.db", b"canary-")
        assert planted == PLANTED, "a column that can hold content needs a word here"
        client.projects.purge(project.id)
        client.runs.purge(early)
        wait_for_jobs(client)
        assert client.deletions.get(outcome.deletion_id).state == "purged"
        assert_gone(site, planter)
        assert client.audit.verify().intact
        assert client.receipts.of_deletion(str(outcome.deletion_id)).body["what"]["counts"]["project"] == 1
        assert columns_with(site.data / "labkeep.db", b"canary-") == set()
    assert_gone(site, planter)
    site.assert_sound()


def test_every_column_that_can_hold_words_is_planted_or_has_a_reason() -> None:
    assert PLANTED | REASONS.keys() == set(content_columns())
    assert not PLANTED & REASONS.keys()


def crowd(client: Labkeep, runs: int) -> tuple[list[str], list[str]]:
    """Many runs in one project, mixed: the ids of every third, and their words. Trees are rebalanced often by this."""
    made: list[Any] = []
    for start in range(0, runs, 200):
        batch = [
            {
                "name": f"{'canary' if n % 3 == 0 else 'kept'}-{n}-run",
                "config": {"note": f"{'canary' if n % 3 == 0 else 'kept'}-{n}-config", "pad": "z" * (n * 37 % 150)},
                "notes": f"{'canary' if n % 3 == 0 else 'kept'}-{n}-notes" + "q" * (n * 53 % 400),
            }
            for n in range(start, start + 200)
        ]
        made += client.runs.create_many(batch, project="crowd")
    for run in sorted(made, key=lambda run: run.name)[::3]:
        client.runs.update(run.id, status="finished", description="p" * (len(run.notes) % 90))
    going = [run for run in made if run.name.startswith("canary")]
    words = [f"{run.name.removesuffix('run')}{part}" for run in going for part in ("run", "config", "notes")]
    return [run.id for run in going], words


@pytest.mark.parametrize("mode", ["upstream", "deaf"])
def test_a_purge_among_many_leaves_nothing_and_our_asking_is_what_does_it(tmp_path: Path, mode: str) -> None:
    site = upstream_site(tmp_path, mode)
    with site.running() as server, server.client() as client:
        ids, words = crowd(client, 600)
        assert len(find(site.data, words)) == len(words) == 600
        outcome = client.apply("trash", ids=ids, on_running="stop")
        client.deletions.purge(outcome.deletion_id)
        wait_for_jobs(client)
        assert len([*client.runs.list("crowd", limit=1_000)]) == 400
    found = find(site.data, words)
    if mode == "upstream":
        assert found == {}
    else:
        assert found, "where nothing overwrites, this test must notice"
    site.assert_sound()

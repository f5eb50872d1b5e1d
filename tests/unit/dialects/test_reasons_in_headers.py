"""Where reasons are required, clients of other systems give them in headers, and are told so in their own envelope."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from labkeep.core.access import Actor
from labkeep.core.commands import CreateRun, Get, UpdateProject
from labkeep.dialects import braintrust, wandb
from labkeep.dialects.wandb.context import global_id
from labkeep.operations import Store, deletions, projects, runs


@pytest.fixture
def run(store: Store, admin: Actor) -> Any:
    made = store.database.write(runs.create, admin, CreateRun(project="p", status="finished"))  # type: ignore[arg-type]
    asked = UpdateProject(id="p", settings={"require_reason": True, "require_ticket": True})
    store.database.write(projects.update, admin, asked)
    return made


HEADERS = {"Labkeep-Reason": "falsche Daten: größer".encode(), "Labkeep-Ticket": b"OPS-17"}


def reasons_of(store: Store, admin: Actor, id: str) -> tuple[str, str]:
    item = store.database.read(deletions.get_item, admin, Get(id=id, include="trashed"))
    assert item.deletion_id is not None
    found = store.database.read(deletions.get, admin, Get(id=item.deletion_id))
    return found.reason, found.ticket


def test_the_rest_dialect(store: Store, admin: Actor, client_of: Callable[..., TestClient], run: Any) -> None:
    api = client_of(braintrust.DIALECT)
    refused = api.delete(f"/v1/experiment/{run.id}")
    assert refused.status_code in (400, 422)
    assert "Labkeep-Reason" in refused.text
    assert "Labkeep-Ticket" in api.delete(f"/v1/experiment/{run.id}", headers={"Labkeep-Reason": "x"}).text
    assert api.delete(f"/v1/experiment/{run.id}", headers=HEADERS).status_code == 200
    assert reasons_of(store, admin, run.id) == ("falsche Daten: größer", "OPS-17")


def test_the_graphql_dialect(store: Store, admin: Actor, client_of: Callable[..., TestClient], run: Any) -> None:
    api = client_of(wandb.DIALECT)
    query = {"query": f'mutation {{ deleteRun(input: {{id: "{global_id("Run", run.id)}"}}) {{ clientMutationId }} }}'}
    assert "Labkeep-Reason" in api.post("/graphql", json=query).text
    assert "errors" not in api.post("/graphql", json=query, headers=HEADERS).json()
    assert reasons_of(store, admin, run.id) == ("falsche Daten: größer", "OPS-17")

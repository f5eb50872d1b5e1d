"""A store with keys, and a client that speaks to one dialect as its SDK would."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from labkeep.core.access import Actor
from labkeep.core.commands import CreateKey
from labkeep.core.lifecycle import Role
from labkeep.dialects import Dialect
from labkeep.http.auth import NOBODY, KeyRing
from labkeep.operations import Store
from labkeep.operations.accounts import Credentials, Setup, authenticate, create_key, digest_of, set_up
from labkeep.testing.factories import FixedClock, make_store

ADMIN = "lk-" + "a" * 43


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def store(tmp_path: Path, clock: FixedClock) -> Iterator[Store]:
    with make_store(tmp_path, clock) as store:
        store.database.write(set_up, NOBODY, Setup(secret=ADMIN))
        yield store


@pytest.fixture
def admin(store: Store) -> Actor:
    """The owner whose key the clients use."""
    return store.database.read(authenticate, NOBODY, Credentials(digest=digest_of(ADMIN)))


@pytest.fixture
def new_key(store: Store, admin: Actor) -> Callable[..., str]:
    """``new_key(role, user=…)``: a key in the admin's workspace."""

    def make(role: str, user: str = "ada", **fields: Any) -> str:
        return store.database.write(create_key, admin, CreateKey(user=user, role=Role(role), **fields)).secret

    return make


@pytest.fixture
def client_of(store: Store) -> Iterator[Callable[..., TestClient]]:
    """``client_of(dialect, key=…)``: a client whose paths begin below the dialect's prefix."""
    opened: list[TestClient] = []

    def make(dialect: Dialect, key: str = ADMIN, **settings: Any) -> TestClient:
        used = store._replace(settings=_with(store, settings)) if settings else store
        app = Starlette(routes=[Mount(dialect.prefix, dialect.application(used, KeyRing()))])
        client = TestClient(app, base_url=f"http://labkeep.test{dialect.prefix}", raise_server_exceptions=False)
        client.headers["authorization"] = f"Bearer {key}"
        opened.append(client)
        return client

    yield make
    for client in opened:
        client.close()


def _with(store: Store, settings: dict[str, Any]) -> Any:
    return msgspec.structs.replace(store.settings, **settings)

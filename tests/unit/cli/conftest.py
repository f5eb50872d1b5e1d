"""Fixtures of the command line's tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from labkeep import Labkeep
from tests.unit.cli.folder_cli import Cli, MakeRun


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """The command line over a folder that the tests of one file share; they use projects of their own."""
    folder = tmp_path_factory.mktemp("store")
    with Labkeep.local(folder) as client:
        yield Cli(folder, client)


@pytest.fixture
def project(cli: Cli, request: pytest.FixtureRequest) -> str:
    """The name of a project that only this test has."""
    name = str(request.node.name).removeprefix("test_")
    cli.client.projects.create(name, exist_ok=True)
    return name


@pytest.fixture
def make_run(cli: Cli, project: str) -> MakeRun:
    """Makes a finished run in the test's project; answers its id."""

    def make(name: str, status: str = "finished", **fields: Any) -> str:
        return cli.client.runs.create(project, name=name, handle=name, status=status, **fields).id

    return make

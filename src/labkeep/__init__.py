"""Labkeep: one store and one honest lifecycle for experiments and eval runs.

    run = labkeep.init(project="digits", config={"lr": 0.01})
    run.log({"loss": 0.5})
    run.finish()

`Labkeep` and `AsyncLabkeep` are the whole API, `init` and what belongs to it is for training code, and `Api` looks
things up afterwards. Names are loaded when they are first used, so that importing this costs a training script nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labkeep.client._async.client import AsyncLabkeep
    from labkeep.client._sync.client import Labkeep
    from labkeep.client.api import Api
    from labkeep.client.artifact import Artifact
    from labkeep.client.mappings import Config, Summary
    from labkeep.client.receiving import verify_webhook
    from labkeep.client.run import Run
    from labkeep.client.sync import sync
    from labkeep.client.target import login
    from labkeep.client.tracking import finish, init, log
    from labkeep.core import errors

    run: Run | None
    config: Config
    summary: Summary

__version__ = "0.1.0"

_HOMES = {
    "Labkeep": "labkeep.client._sync.client",
    "AsyncLabkeep": "labkeep.client._async.client",
    "Api": "labkeep.client.api",
    "Artifact": "labkeep.client.artifact",
    "Run": "labkeep.client.run",
    "init": "labkeep.client.tracking",
    "log": "labkeep.client.tracking",
    "finish": "labkeep.client.tracking",
    "login": "labkeep.client.target",
    "sync": "labkeep.client.sync",
    "verify_webhook": "labkeep.client.receiving",
}
"""Public name -> the module that it is loaded from."""

_OF_THE_RUN = ("run", "config", "summary")
"""Names that stand for something of the run that is active at the moment."""

__all__ = [
    "Api",
    "Artifact",
    "AsyncLabkeep",
    "Labkeep",
    "Run",
    "__version__",
    "config",
    "errors",
    "finish",
    "init",
    "log",
    "login",
    "run",
    "summary",
    "sync",
    "verify_webhook",
]


def __getattr__(name: str) -> Any:
    if name in _OF_THE_RUN:
        return getattr(import_module("labkeep.client.tracking"), f"current_{name}")()
    if name == "errors":
        return import_module("labkeep.core.errors")
    if name not in _HOMES:
        raise AttributeError(f"module 'labkeep' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

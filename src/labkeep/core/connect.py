"""What points each system's own SDK at a Labkeep server: variables of the environment, as a table.

The base install has it for ``labkeep connect``; dialects may read their part of it.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from labkeep.core.errors import Invalid, Unsupported


class System(msgspec.Struct, frozen=True):
    """A system whose SDK can be pointed here. ``{url}`` in a variable is the server with the prefix, ``{key}`` the key.

    ``served`` says whether this version answers it.
    """

    prefix: str
    variables: Mapping[str, str]
    packages: tuple[str, ...]
    served: bool = False


SYSTEMS: dict[str, System] = {
    "labkeep": System("", {"LABKEEP_URL": "{url}", "LABKEEP_API_KEY": "{key}"}, ("labkeep",), served=True),
    "braintrust": System(
        "/braintrust",
        {
            "BRAINTRUST_APP_URL": "{url}",
            "BRAINTRUST_API_URL": "{url}",
            "BRAINTRUST_BASE_URL": "{url}",
            "BRAINTRUST_API_KEY": "{key}",
        },
        ("braintrust", "braintrust-api"),
        served=True,
    ),
    "wandb": System("/wandb", {"WANDB_BASE_URL": "{url}", "WANDB_API_KEY": "{key}"}, ("wandb",), served=True),
    "aymara": System("/aymara", {"AYMARA_AI_BASE_URL": "{url}", "AYMARA_AI_API_KEY": "{key}"}, ("aymara-ai-sdk",)),
    "keywordsai": System(
        "/keywordsai", {"KEYWORDS_AI_BASE_URL": "{url}", "KEYWORDSAI_API_KEY": "{key}"}, ("keywordsai",)
    ),
    "rhesis": System("/rhesis", {"RHESIS_BASE_URL": "{url}", "RHESIS_API_KEY": "{key}"}, ("rhesis-sdk",)),
}
"""Name → what its SDK reads."""


def served() -> list[str]:
    """Names of the systems that this version answers."""
    return [name for name, system in SYSTEMS.items() if system.served]


def system_named(name: str) -> System:
    """One system. Invalid for an unknown one, Unsupported for one that is not served yet; both say which are."""
    system = SYSTEMS.get(name)
    supported = ", ".join(served())
    if system is None:
        raise Invalid(f"{name!r} is no system that Labkeep knows; supported: {supported}", path="system")
    if not system.served:
        raise Unsupported(
            f"this version of Labkeep does not answer the SDK of {name} yet; supported: {supported}", supported=served()
        )
    return system


def environment(system: System, url: str, key: str) -> dict[str, str]:
    """The variables that point the system's SDK at the server ``url``."""
    address = url.rstrip("/") + system.prefix
    return {variable: text.format(url=address, key=key) for variable, text in system.variables.items()}

"""The API of W&B: its client works against ``<server>/wandb``.

An entity is a workspace, a run's short id is our handle, what it logs are streams of its history.
docs/dialects/wandb.md says what is the same and what is not.
"""

from __future__ import annotations

from starlette.requests import Request

from labkeep.core.access import Actor
from labkeep.core.errors import LabkeepError
from labkeep.dialects import Covered, Dialect
from labkeep.dialects.wandb.engine import ENGINE
from labkeep.dialects.wandb.errors import STATUS, encode, for_a_person
from labkeep.dialects.wandb.graphql import offers
from labkeep.dialects.wandb.refusals import wants_page
from labkeep.dialects.wandb.routes import ROUTES
from labkeep.dialects.wandb.surface import OPERATIONS
from labkeep.dialects.wandb.translate import DIALECT as NAME
from labkeep.http.auth import KeyRing, bearer

PREFIX = "/wandb"


async def _identify(keyring: KeyRing, request: Request) -> Actor:
    try:
        return await keyring.identify(request, bearer(request))
    except LabkeepError as error:
        if wants_page(request):
            raise for_a_person(error) from None
        raise


def _environment(url: str, key: str) -> dict[str, str]:
    return {"WANDB_BASE_URL": url.rstrip("/") + PREFIX, "WANDB_API_KEY": key}


COVERED = [
    Covered(group, operation, f"{name} ({path})", offers(ENGINE, operation, path))
    for group, operations in OPERATIONS.items()
    for operation, name, path in operations
]
"""Every operation of the vendor's client, and whether it is answered."""

DIALECT = Dialect(
    name=NAME,
    title="W&B",
    prefix=PREFIX,
    routes=ROUTES,
    encode_error=encode,
    identify=_identify,
    environment=_environment,
    surface=COVERED,
    errors=tuple(STATUS),
    public=("/sdk/", "/storage/"),
)

"""The API of Braintrust: its SDK and its REST client work against ``<server>/braintrust``.

An experiment is a run, the logs of a project are one run of type ``logs``, a dataset is a document, and events are
rows. docs/dialects/braintrust.md says what is the same and what is not.
"""

from __future__ import annotations

from starlette.requests import Request

from labkeep.core.access import Actor
from labkeep.dialects import Dialect
from labkeep.dialects.braintrust.attachments import DOOR
from labkeep.dialects.braintrust.errors import STATUS, encode
from labkeep.dialects.braintrust.routes import COVERED, ROUTES
from labkeep.dialects.braintrust.translate import DIALECT as NAME
from labkeep.http.auth import KeyRing, bearer

PREFIX = "/braintrust"


async def _identify(keyring: KeyRing, request: Request) -> Actor:
    return await keyring.identify(request, bearer(request))


def _environment(url: str, key: str) -> dict[str, str]:
    home = url.rstrip("/") + PREFIX
    return {
        "BRAINTRUST_APP_URL": home,
        "BRAINTRUST_API_URL": home,
        "BRAINTRUST_BASE_URL": home,
        "BRAINTRUST_API_KEY": key,
    }


DIALECT = Dialect(
    name=NAME,
    title="Braintrust",
    prefix=PREFIX,
    routes=ROUTES,
    encode_error=encode,
    identify=_identify,
    environment=_environment,
    surface=COVERED,
    errors=tuple(STATUS),
    public=(DOOR + "/",),
)

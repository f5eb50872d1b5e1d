"""Generated requests against the generated OpenAPI document, sent to the application as it is served.

5xx is never right, answers have the form that the document gives them, and what the document does not allow is refused.
Every check of the tool is on, but for those in `OFF`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.config import SchemathesisConfig

from labkeep.api.routes import ENDPOINTS, PREFIX
from labkeep.api.stream import DESCRIBED
from labkeep.core.columns import MEDIA_TYPE
from labkeep.http import openapi
from tests.unit.client.live_server import Live, serving

OFF = (
    # A schema cannot say that a cursor comes from the page before, what a query may ask for, which fields exclude each
    # other, or that a name has to be free: requests that it allows are refused for such reasons, and rightly.
    "positive_data_acceptance",
)

CONFIG = {
    "seed": 1,
    "generation": {"deterministic": True, "max-examples": 12, "no-shrink": True, "with-security-parameters": False},
    "checks": {check: {"enabled": False} for check in OFF},
}

api = schemathesis.openapi.from_dict(
    openapi.Document(ENDPOINTS, DESCRIBED, prefix=PREFIX).build(), config=SchemathesisConfig.from_dict(CONFIG)
)


@schemathesis.serializer(MEDIA_TYPE)
def as_no_batch(_context: Any, value: Any) -> bytes:
    """The tool knows nothing of our batches: what it makes are bytes that are none."""
    return value if isinstance(value, bytes) else msgspec.json.encode(str(value))


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with serving(tmp_path_factory.mktemp("generated")) as started:
        yield started


@api.parametrize()
@settings(suppress_health_check=list(HealthCheck), deadline=None)
def test_a_generated_request_is_answered_as_the_document_says(case: Any, live: Live) -> None:
    case.call_and_validate(base_url=live.url, headers={"Authorization": f"Bearer {live.key}"})

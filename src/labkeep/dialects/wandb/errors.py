"""Errors in the envelope that the vendor's client shows to its user.

The client retries 408, 429 and 5xx but 501, and 409 when it announces a run, until its user gives up: so a conflict
must not be a 409, and whatever may pass must be retryable.
"""

from __future__ import annotations

import msgspec
from starlette.responses import Response

from labkeep.core.errors import LabkeepError, all_errors
from labkeep.dialects.wandb.refusals import page

STATUS: dict[type[LabkeepError], int] = {kind: 400 if kind.status == 409 else kind.status for kind in all_errors()}
"""Every class of ours -> the status that the client gets."""


FOR_A_PERSON = "for_a_person"
"""Detail of an error that somebody looks at in a browser."""


def encode(error: LabkeepError) -> Response:
    """``{"errors": [{"message"}], "error"}``: the first for GraphQL, the second for everything else."""
    status = STATUS.get(type(error), error.status)
    headers = {"retry-after": str(error.details.get("retry_after_s", 1))} if error.retry else {}
    if status == 401:
        headers["www-authenticate"] = 'Basic realm="Labkeep: the key is the password", charset="UTF-8"'
    if error.details.get(FOR_A_PERSON):
        response: Response = page(error, status)
        response.headers.update(headers)
        return response
    shown = {"message": error.message, "extensions": {"code": error.code, "details": dict(error.details)}}
    body = {"errors": [shown], "error": error.message, "data": None}
    return Response(msgspec.json.encode(body), status, headers, "application/json")


def for_a_person(error: LabkeepError) -> LabkeepError:
    """The same error, to be shown as a page."""
    return type(error)(error.message, **{**error.details, FOR_A_PERSON: True})

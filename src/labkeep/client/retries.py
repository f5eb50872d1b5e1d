"""What to make of an answer: done, worth another try after a while, or an error. Pure but for the dice."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import msgspec

from labkeep.client.transport import Answer, Call, Lost
from labkeep.core.errors import (
    BY_CODE,
    Conflict,
    Corrupt,
    Forbidden,
    Gone,
    Invalid,
    LabkeepError,
    NotFound,
    OverQuota,
    Refused,
    TooLarge,
    Unauthenticated,
    Unavailable,
    Unsupported,
)

LONGEST_WAIT_S = 60.0
"""More than this is not waited, whatever ``Retry-After`` asks for."""

BY_STATUS: dict[int, type[LabkeepError]] = {
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    413: TooLarge,
    422: Invalid,
    429: OverQuota,
    501: Unsupported,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
}
"""For answers that are not ours: those of a proxy before the server."""


class ErrorBody(msgspec.Struct, frozen=True):
    """The native error envelope."""

    code: str
    message: str
    details: dict[str, Any] = {}
    retry: bool = False
    incident: str = ""


class Retries(msgspec.Struct, frozen=True):
    """How often to try again (``count``), and how long to wait: doubling from ``first_s`` to ``longest_s``, with jitter."""

    count: int = 3
    first_s: float = 0.25
    longest_s: float = 8.0

    def after_answer(self, attempt: int, call: Call, answer: Answer) -> float | None:
        """Seconds to wait before try number ``attempt + 1``; None when this answer is final."""
        if attempt >= self.count or not _may_pass(call, answer):
            return None
        asked = _retry_after(answer.headers)
        return self._jittered(attempt) if asked is None else min(asked, LONGEST_WAIT_S)

    def after_loss(self, attempt: int, call: Call, lost: Lost) -> float | None:
        """Seconds to wait after a request that did not get through; None when it must not be sent again."""
        if attempt >= self.count or (lost.sent and not call.repeatable):
            return None
        return self._jittered(attempt)

    def _jittered(self, attempt: int) -> float:
        # Half of the wait is random, so that clients that lost their server together do not come back together.
        return min(self.first_s * 2.0**attempt, self.longest_s) * random.uniform(0.5, 1.0)  # noqa: S311


def _may_pass(call: Call, answer: Answer) -> bool:
    """Whether the same request may succeed later."""
    if answer.status in (429, 503):
        return True
    return answer.status >= 500 and call.repeatable and not isinstance(error_of(call, answer), Unsupported | Corrupt)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    text = headers.get("retry-after", "")
    return float(text) if text.isdigit() else None


def unavailable(url: str, lost: Lost) -> Unavailable:
    """The error for a server that does not answer, and what can be done about it."""
    doubt = " It may have been done all the same." if lost.sent else ""
    return Unavailable(
        f"no answer from {url}: {lost.reason}.{doubt} Is the server running (`labkeep serve`), and is LABKEEP_URL right?",
        url=url,
        reason=lost.reason,
    )


def error_of(call: Call, answer: Answer) -> LabkeepError:
    """The exception that an answer of 300 or more stands for."""
    body = _envelope(answer.body)
    if body is None:
        return _foreign(call, answer)
    kind = BY_CODE.get(body.code) or BY_STATUS.get(answer.status) or (Refused if answer.status < 500 else LabkeepError)
    error = kind(body.message)
    error.details = {**body.details, "incident": body.incident} if body.incident else body.details
    return error


def _envelope(data: bytes) -> ErrorBody | None:
    try:
        return _ERROR.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _foreign(call: Call, answer: Answer) -> LabkeepError:
    where = f"{call.method} {call.path.partition('?')[0]}"
    if answer.status < 400:
        target = answer.headers.get("location", "elsewhere")
        return Refused(f"{where} was redirected to {target}; set LABKEEP_URL to where the server really is")
    kind = BY_STATUS.get(answer.status) or (Refused if answer.status < 500 else LabkeepError)
    text = answer.body[:200].decode(errors="replace").strip()
    return kind(f"{where} was answered with {answer.status}" + (f": {text}" if text else ""))


_ERROR = msgspec.json.Decoder(ErrorBody)

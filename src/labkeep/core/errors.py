"""Every error that Labkeep raises on purpose, as one tree.

    LabkeepError
    ├── Refused                      the request cannot be done as asked
    │   ├── Invalid          422     a value is malformed or out of range
    │   ├── Unauthenticated  401     no key, or one that is unknown, expired or revoked
    │   ├── Forbidden        403     the key's role or scope lacks the permission
    │   ├── NotFound         404     no such object for this key (another tenant's object looks the same)
    │   ├── Gone             410     it was trashed or purged; says who, when and until when it can be restored
    │   ├── TooLarge         413     over a configured limit
    │   ├── OverQuota        429     too many requests or deletions in the window
    │   └── Unsupported      501     the operation is known and not offered
    ├── Conflict             409     the request is fine, the state of the world is not
    │   ├── AlreadyExists            the name or id is taken
    │   ├── Illegal                  the verb is not legal in this state
    │   ├── Stale                    the world moved since the plan or the version that was read
    │   ├── Held                     a lock or a hold protects the object
    │   └── InUse                    something live depends on it; dependents are listed
    ├── Unavailable          503     try again later
    ├── Corrupt              500     stored data failed its own integrity check
    └── Internal             500     a bug; the server's log has the trace under ``incident``

The HTTP status, the CLI exit code and whether a retry may help are on the class, so that every edge
renders the same error the same way. Anything that is not in this tree is a bug, and is answered as `Internal`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class LabkeepError(Exception):
    """An error with a stable code. ``details`` are JSON-ready and safe to show to the caller."""

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1
    retry: ClassVar[bool] = False

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details: Mapping[str, Any] = details


class Refused(LabkeepError):
    """The request cannot be done as asked."""

    code = "refused"
    status = 400
    exit_code = 2


class Invalid(Refused):
    """A value is malformed or out of range. ``path`` names the field, ``column`` the place in a filter text."""

    code = "invalid"
    status = 422


class Unauthenticated(Refused):
    """No key, or one that is unknown, expired or revoked."""

    code = "unauthenticated"
    status = 401
    exit_code = 3


class Forbidden(Refused):
    """The key's role or scope lacks the permission that ``permission`` names."""

    code = "forbidden"
    status = 403
    exit_code = 3


class NotFound(Refused):
    """No such object for this key. Another tenant's object looks exactly the same."""

    code = "not_found"
    status = 404
    exit_code = 4


class Gone(Refused):
    """It was trashed or purged: ``by``, ``at``, ``deletion_id``, and ``restorable_until`` when it can come back."""

    code = "gone"
    status = 410
    exit_code = 4


class TooLarge(Refused):
    """Over a configured limit; ``limit`` says which and how much."""

    code = "too_large"
    status = 413


class OverQuota(Refused):
    """Too many requests or deletions in the window; ``retry_after_s`` says when to come back."""

    code = "over_quota"
    status = 429
    retry = True


class Unsupported(Refused):
    """The operation is known and not offered here."""

    code = "unsupported"
    status = 501


class Conflict(LabkeepError):
    """The request is fine, the state of the world is not."""

    code = "conflict"
    status = 409
    exit_code = 5


class AlreadyExists(Conflict):
    """The name or id is taken; ``id`` names the holder when the caller may see it."""

    code = "already_exists"


class Illegal(Conflict):
    """The verb is not legal in this state; ``legal`` lists the verbs that are."""

    code = "illegal"


class Stale(Conflict):
    """The world moved since the plan or version that was read; ``plan`` carries the new plan."""

    code = "stale"


class Held(Conflict):
    """A lock or a hold protects the object."""

    code = "held"


class InUse(Conflict):
    """Something live depends on it; ``dependents`` lists what."""

    code = "in_use"


class Unavailable(LabkeepError):
    """The server cannot do it now; the same request may succeed later."""

    code = "unavailable"
    status = 503
    exit_code = 6
    retry = True


class Corrupt(LabkeepError):
    """Stored data failed its own integrity check; run ``labkeep check``."""

    code = "corrupt"
    status = 500
    exit_code = 7


class Internal(LabkeepError):
    """A bug in the server. ``incident`` is what to look for in its log; nothing else of it is shown."""

    code = "internal"
    status = 500


def all_errors() -> tuple[type[LabkeepError], ...]:
    """Every class of the tree, parents first: docs print it, dialects must map each of them."""
    found: list[type[LabkeepError]] = []
    pending: list[type[LabkeepError]] = [LabkeepError]
    while pending:
        kind = pending.pop(0)
        found.append(kind)
        pending.extend(child for child in kind.__subclasses__() if child.__module__ == __name__)
    return tuple(found)


BY_CODE: dict[str, type[LabkeepError]] = {kind.code: kind for kind in all_errors()}
"""Code on the wire -> class: how a client turns an error body back into an exception."""

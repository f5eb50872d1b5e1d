"""Handlers of what a client asks first: who it is, where the API is, what the server can do."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from labkeep import __version__
from labkeep.core.commands import Me, Nothing
from labkeep.dialects.braintrust.translate import user_id
from labkeep.http.urls import base_url
from labkeep.http.wire import actor_of, answer, run
from labkeep.operations import accounts

GIT_FIELDS = ["commit", "branch", "tag", "dirty", "author_name", "author_email", "commit_message", "commit_time"]
"""What of the user's repository a client sends along; never the diff."""


async def login(request: Request) -> Response:
    """POST /api/apikey/login: the organization, and where its API is."""
    me: Me = await run(request, accounts.me, Nothing(), writes=False)
    url = base_url(request)
    organization = {
        "id": me.organization_id,
        "name": me.organization,
        "api_url": url,
        "proxy_url": url,
        "realtime_url": None,
        "is_universal_api": True,
        "git_metadata": {"collect": "some", "fields": GIT_FIELDS},
    }
    return answer({"org_info": [organization]})


async def version(_request: Request) -> Response:
    """GET /version. No limit for batches is advertised, so clients keep to their own."""
    return answer({"version": __version__, "service": "labkeep"})


async def ping(request: Request) -> Response:
    """GET /ping: who the key is."""
    me: Me = await run(request, accounts.me, Nothing(), writes=False)
    organization = {"id": me.organization_id, "name": me.organization}
    id = user_id(me.organization_id, actor_of(request).name)
    return answer({"id": id, "name": me.user, "email": None, "organizations": [organization]})


async def hello(_request: Request) -> Response:
    """GET /v1."""
    return PlainTextResponse("Hello, World!")

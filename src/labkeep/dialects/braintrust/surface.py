"""Every operation that the vendor's clients know, as group, method and path: what the coverage table is made from.

``scripts/coverage_braintrust.py --clients`` compares this with the clients that are installed.
"""

from __future__ import annotations

from collections.abc import Iterator

COLLECTION = ("GET", "POST")
WITH_PUT = ("GET", "POST", "PUT")
ONE = ("GET", "PATCH", "DELETE")

RESOURCES: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "project": ("Projects", COLLECTION, ONE),
    "experiment": ("Experiments", COLLECTION, ONE),
    "dataset": ("Datasets", COLLECTION, ONE),
    "prompt": ("Prompts", WITH_PUT, ONE),
    "function": ("Functions", WITH_PUT, ONE),
    "agent": ("Agents", WITH_PUT, ONE),
    "ai_secret": ("AI secrets", (*WITH_PUT, "DELETE"), ONE),
    "acl": ("Access control lists", (*COLLECTION, "DELETE"), ("GET", "DELETE")),
    "api_key": ("API keys", COLLECTION, ("GET", "DELETE")),
    "dataset_snapshot": ("Dataset snapshots", WITH_PUT, ONE),
    "env_var": ("Environment variables", WITH_PUT, ONE),
    "group": ("Groups", WITH_PUT, ONE),
    "mcp_server": ("MCP servers", WITH_PUT, ONE),
    "org_automation": ("Organization automations", WITH_PUT, ONE),
    "organization": ("Organizations", ("GET",), ONE),
    "project_automation": ("Project automations", WITH_PUT, ONE),
    "project_group": ("Project groups", WITH_PUT, ONE),
    "project_score": ("Project scores", WITH_PUT, ONE),
    "project_tag": ("Project tags", WITH_PUT, ONE),
    "role": ("Roles", WITH_PUT, ONE),
    "service_token": ("Service tokens", (*WITH_PUT, "DELETE"), ("GET", "DELETE")),
    "span_iframe": ("Span iframes", WITH_PUT, ONE),
    "user": ("Users", ("GET",), ("GET",)),
    "view": ("Views", WITH_PUT, ONE),
}
"""Word in the path -> group, methods on all of them, methods on one."""

_ROWS = (("POST", "insert"), ("GET", "fetch"), ("POST", "fetch"), ("POST", "feedback"))

_FURTHER: list[tuple[str, str, str]] = [
    ("Experiments", "GET", "/v1/experiment/{id}/summarize"),
    ("Datasets", "GET", "/v1/dataset/{id}/summarize"),
    ("Functions", "POST", "/v1/function/{id}/invoke"),
    ("Access control lists", "GET", "/v1/acl/list_org"),
    ("Access control lists", "POST", "/v1/acl/batch_update"),
    ("Access control lists", "POST", "/v1/acl/batch-update"),
    ("Organizations", "GET", "/v1/organization/api_keys"),
    ("Organizations", "PATCH", "/v1/organization/members"),
    ("Simulated users", "GET", "/v1/project/{id}/simulated_user"),
    ("Simulated users", "POST", "/v1/project/{id}/simulated_user"),
    ("Simulated users", "GET", "/v1/project/{id}/simulated_user/{user_id}"),
    ("Simulated users", "PATCH", "/v1/project/{id}/simulated_user/{user_id}"),
    ("Simulated users", "DELETE", "/v1/project/{id}/simulated_user/{user_id}"),
    ("Environments", "GET", "/environment"),
    ("Environments", "POST", "/environment"),
    ("Environments", "GET", "/environment/{id}"),
    ("Environments", "PATCH", "/environment/{id}"),
    ("Environments", "DELETE", "/environment/{id}"),
    ("Environments", "GET", "/environment-object/{kind}/{id}/{environment}"),
    ("Evals", "POST", "/v1/eval"),
    ("Proxy", "POST", "/v1/proxy/auto"),
    ("Proxy", "POST", "/v1/proxy/chat/completions"),
    ("Proxy", "POST", "/v1/proxy/completions"),
    ("Proxy", "POST", "/v1/proxy/embeddings"),
    ("Proxy", "POST", "/v1/proxy/credentials"),
    ("Proxy", "POST", "/v1/proxy/{path}"),
    ("Across objects", "POST", "/v1/insert"),
    ("Other", "GET", "/v1"),
    ("Login", "POST", "/api/apikey/login"),
    ("Login", "GET", "/ping"),
    ("Logging", "GET", "/version"),
    ("Logging", "POST", "/logs3"),
    ("Logging", "POST", "/logs3/overflow"),
    ("Logging", "POST", "/otel/v1/traces"),
    ("Queries", "POST", "/btql"),
    ("Experiments", "POST", "/api/base_experiment/get_id"),
    ("Functions", "POST", "/function/invoke"),
    ("Functions", "POST", "/insert-functions"),
    ("Attachments", "POST", "/attachment"),
    ("Attachments", "GET", "/attachment"),
    ("Attachments", "POST", "/attachment/status"),
    ("SDK up to 0.7", "POST", "/api/project/register"),
    ("SDK up to 0.7", "GET", "/api/project"),
    ("SDK up to 0.7", "POST", "/api/experiment/register"),
    ("SDK up to 0.7", "POST", "/api/experiment/get"),
    ("SDK up to 0.7", "POST", "/api/dataset/register"),
    ("SDK up to 0.7", "GET", "/experiment-comparison2"),
    ("SDK up to 0.7", "GET", "/dataset-summary"),
]


def _operations() -> Iterator[tuple[str, str, str]]:
    for group, method, path in _FURTHER:
        yield group, method, path  # fixed paths first: a router must not take them for ids
    for word, (group, collection, one) in RESOURCES.items():
        yield from ((group, method, f"/v1/{word}") for method in collection)
        yield from ((group, method, f"/v1/{word}/{{id}}") for method in one)
    for word, group in (("experiment", "Experiments"), ("dataset", "Datasets"), ("project_logs", "Project logs")):
        yield from ((group, method, f"/v1/{word}/{{id}}/{verb}") for method, verb in _ROWS)


SURFACE: list[tuple[str, str, str]] = list(_operations())
"""Group, method, path."""

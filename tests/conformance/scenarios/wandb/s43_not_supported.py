"""Whatever the page of the dialect says is refused is refused, with a message that the client shows; nothing hangs."""

import ast
import re
import time
from pathlib import Path

from _scratch import done, uniq

# isort: split
import wandb

PAGE = Path(__file__).resolve().parents[4] / "docs" / "dialects" / "wandb.md"
DOCUMENT = re.compile(r"^\s*(?:#graphql\s*)?(query|mutation)\s+(\w+)\s*[({]")
REFUSAL = "not supported by this server"


def refused_operations():
    """The last column of the table of coverage."""
    lines = [
        line for line in PAGE.read_text(encoding="utf-8").splitlines() if re.match(r"\| .* \| \d+ of \d+ \|", line)
    ]
    return {name for line in lines for name in re.findall(r"`([^`]+)`", line.split("|")[4])}


def documents():
    """Every document of the client's Python by the name of its operation."""
    found = {}
    for source in Path(wandb.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8", errors="replace"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and (match := DOCUMENT.match(node.value)):
                found.setdefault(match[2], node.value)
    return found


def refusal_of(call, within_s=20):
    started = time.monotonic()
    try:
        call()
    except Exception as error:
        took = time.monotonic() - started
        assert took < within_s, (took, error)
        return str(error)
    raise SystemExit(f"{call} was not refused")


api = wandb.Api()
known, refused = documents(), refused_operations()
assert len(refused) > 20 and len(known) > 100, (len(refused), len(known))
asked = 0
for name in sorted(refused & known.keys()):
    message = refusal_of(lambda name=name: api._service_api.execute_graphql(known[name], {}))
    assert REFUSAL in message, (name, message)
    asked += 1
assert asked > 20, asked
print("only in the Go program:", sorted(refused - known.keys()))

# --- as a user meets it
run = wandb.init(project=uniq("s43"))
run.finish()
P, entity = f"{run.entity}/{run.project}", run.entity
for what, call in {
    "teams": lambda: api.create_team("a-team"),
    "users": lambda: api.create_user("someone@example.org"),
    "reports": lambda: list(api.reports(P)),
    "queues": lambda: api.create_run_queue("queue", "local-container", entity=entity),
    "automations": lambda: list(api.automations(entity)),
    "webhooks": lambda: list(api.webhook_integrations(entity)),
    "charts": lambda: api.create_custom_chart(entity, "chart", "Chart", "vega2", "private", {}),
}.items():
    message = refusal_of(call)
    print(what, "->", message.strip()[:160])
    assert "support" in message.lower(), (what, message)
# The server is as well as before.
assert [each.id for each in api.runs(P)] == [run.id]
done("s43", refused=asked)

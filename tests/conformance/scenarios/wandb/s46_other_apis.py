"""Runs of other APIs of the same server: seen with sensible fields, trashed on one side, gone and back on all."""

import json
import os
import urllib.error
import urllib.request

from _scratch import ENTITY, done, uniq

# isort: split
import wandb

ROOT, KEY = os.environ["WANDB_BASE_URL"].removesuffix("/wandb"), os.environ["WANDB_API_KEY"]
proj = uniq("s46")


def call(method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    try:
        with urllib.request.urlopen(urllib.request.Request(ROOT + path, data, headers, method=method), timeout=30) as r:
            return r.status, json.loads(r.read() or b"null")
    except urllib.error.HTTPError as refused:
        return refused.code, json.loads(refused.read() or b"null")


def made(method, path, body=None):
    status, answer = call(method, path, body)
    assert status < 300, (method, path, status, answer)
    return answer


# --- one run through each API
with wandb.init(project=proj, entity=ENTITY, name="by wandb") as run:
    run.log({"loss": 0.5})
P = f"{run.entity}/{proj}"
native = made(
    "POST",
    "/api/v1/runs",
    {"project": proj, "name": "by hand", "config": {"lr": 0.1}, "tags": ["x"], "notes": "n", "group": "g"},
)
rows = [{"_step": step, "loss": 1 / (step + 1), "nested": {"a": step}} for step in range(5)]
made("POST", f"/api/v1/runs/{native['id']}/history?stream=history&offset=0", {"rows": rows})
made("POST", f"/api/v1/runs/{native['id']}/finish", {"status": "finished"})
project = made("POST", "/braintrust/v1/project", {"name": proj})
experiment = made("POST", "/braintrust/v1/experiment", {"project_id": project["id"], "name": "by braintrust"})
made(
    "POST",
    f"/braintrust/v1/experiment/{experiment['id']}/insert",
    {"events": [{"id": "r1", "input": "q", "output": "a", "scores": {"exact": 1}}]},
)


def seen():
    return {r.name: r for r in wandb.Api().runs(P, lazy=False)}


# --- what the client sees of them
everything = seen()
assert set(everything) == {"by wandb", "by hand", "by braintrust"}, set(everything)
by_hand = wandb.Api().run(f"{P}/{native['id']}")
assert (by_hand.id, by_hand.state, by_hand.tags, by_hand.notes, by_hand.group) == (
    native["id"],
    "finished",
    ["x"],
    "n",
    "g",
)
assert by_hand.config == {"lr": 0.1} and by_hand.user.username and by_hand.url.endswith(f"/runs/{native['id']}")
assert [row["loss"] for row in by_hand.scan_history()] == [1 / (step + 1) for step in range(5)]
assert [row["nested.a"] for row in by_hand.scan_history(keys=["nested.a"])] == list(range(5))
assert by_hand.lastHistoryStep == 4 and by_hand.summary.get("loss") in (None, 0.2), dict(by_hand.summary)
by_braintrust = everything["by braintrust"]
assert by_braintrust.state == "finished" and list(by_braintrust.scan_history()) == []
assert by_braintrust.created_at and by_braintrust.user and list(by_braintrust.files()) == []
by_hand.tags.append("from wandb")
by_hand.update()
assert made("GET", f"/api/v1/runs/{native['id']}")["tags"] == ["x", "from wandb"]
assert made("GET", f"/api/v1/runs/{native['id']}")["status"] == "finished"

# --- trashed with one client, gone for all; restored natively, back for all
by_hand.delete()
assert call("GET", f"/api/v1/runs/{native['id']}")[0] == 410 and "by hand" not in seen()
made("POST", f"/api/v1/items/{native['id']}/restore", {})
assert "by hand" in seen()

assert call("DELETE", f"/braintrust/v1/experiment/{experiment['id']}")[0] < 300
assert "by braintrust" not in seen()
try:
    wandb.Api().run(f"{P}/{by_braintrust.id}")
except Exception as gone:
    assert "trash" in str(gone).lower() or "not find" in str(gone), gone
else:
    raise SystemExit("a run in the trash was read")
made("POST", f"/api/v1/items/{experiment['id']}/restore", {})
assert "by braintrust" in seen()
assert call("GET", f"/braintrust/v1/experiment/{experiment['id']}")[0] == 200

wandb.Api().run(f"{P}/{by_braintrust.id}").delete()
assert call("GET", f"/braintrust/v1/experiment/{experiment['id']}")[0] >= 400
listed = made("GET", f"/braintrust/v1/experiment?project_id={project['id']}")["objects"]
assert experiment["id"] not in [each["id"] for each in listed]
made("POST", f"/api/v1/items/{experiment['id']}/restore", {})
assert call("GET", f"/braintrust/v1/experiment/{experiment['id']}")[0] == 200
done("s46")

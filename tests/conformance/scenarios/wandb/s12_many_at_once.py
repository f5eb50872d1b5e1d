"""deleteRuns, undeleteRuns, modifyRuns and moveRuns as the vendor's web pages send them; delete with artifacts; late writes."""

import base64
import json
import os
import urllib.error
import urllib.request

from _scratch import done, uniq

# isort: split
import wandb

BASE, KEY = os.environ["WANDB_BASE_URL"], os.environ["WANDB_API_KEY"]
proj = uniq("s12")


def post(path, body):
    basic = base64.b64encode(f"api:{KEY}".encode()).decode()
    headers = {"authorization": f"Basic {basic}", "content-type": "application/json"}
    request = urllib.request.Request(BASE + path, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def mutate(field, input, fields):
    query = f"mutation M($input: {field[0].upper()}{field[1:]}Input!) {{ {field}(input: $input) {{ {fields} }} }}"
    status, answer = post("/graphql", {"query": query, "variables": {"input": input}})
    assert status == 200, (field, status, answer)
    return answer["data"][field]


runs = []
for i in range(4):
    run = wandb.init(project=proj, config={"i": i}, tags=[f"t{i}"])
    run.log({"x": i})
    if i == 0:
        made = wandb.Artifact("art", "dataset")
        with made.new_file("f.txt") as f:
            f.write("hi")
        run.log_artifact(made, aliases=["keep"]).wait()
    run.finish()
    runs.append(run)
ent = runs[0].entity
P, where = f"{ent}/{proj}", {"entityName": ent, "projectName": proj}


def ids(path=P, **filters):
    return {r.config["i"] for r in wandb.Api().runs(path, filters=filters, lazy=False)}


chosen = json.dumps({"config.i": {"$gte": 2}})
changed = mutate(
    "modifyRuns", {**where, "filters": chosen, "addTags": ["new"], "removeTags": ["t2"]}, "runs { name tags }"
)
assert sorted(r["tags"] for r in changed["runs"]) == [["new"], ["t3", "new"]]
assert ids(tags="new") == {2, 3} and ids(tags="t2") == set()

victim = wandb.Api().run(f"{P}/{runs[0].id}")
victim.delete(delete_artifacts=True)
assert not wandb.Api().artifact_exists(f"{P}/art:v0") and ids() == {1, 2, 3}
mutate("deleteRuns", {**where, "filters": chosen}, "errors")
assert ids() == {1}
mutate("undeleteRuns", {**where, "filters": "{}"}, "clientMutationId")
assert ids() == {0, 1, 2, 3}
assert wandb.Api().artifact(f"{P}/art:keep").file_count == 1, "what went with a run comes back with it"

mutate(
    "moveRuns",
    {
        "sourceEntityName": ent,
        "sourceProjectName": proj,
        "destinationEntityName": ent,
        "destinationProjectName": proj + "-b",
        "filters": '{"config.i": 3}',
    },
    "task",
)
assert ids(f"{P}-b", tags="new") == {3} and ids() == {0, 1, 2}
assert [row["x"] for row in wandb.Api().run(f"{P}-b/{runs[3].id}").scan_history()] == [3]

gone = runs[1].id
wandb.Api().run(f"{P}/{gone}").delete()
status, answer = post(f"/files/{ent}/{proj}/{gone}/file_stream", {})
assert status == 410 and "restorable until" in answer["error"], (status, answer)
late = {"name": gone, "modelName": proj, "entityName": ent, "config": '{"i": {"value": 9}}'}
query = "mutation M($input: UpsertBucketInput!) { upsertBucket(input: $input) { inserted } }"
status, answer = post("/graphql", {"query": query, "variables": {"input": late}})
assert status == 410, (status, answer)
assert ids() == {0, 2}, "a late change must not bring a deleted run back"
done("s12")

"""The public API beyond lists: keys, files, projects, users, bulk changes by filter, sweeps in filters, edits of one run."""

import json
from pathlib import Path

from _scratch import ENTITY, SCRATCH, done, uniq

# isort: split
import wandb

proj = uniq("s44")
runs = {}
for number in range(4):
    run = wandb.init(
        project=proj,
        entity=ENTITY,
        name=f"run {number}",
        group="even" if number % 2 == 0 else "odd",
        job_type="train" if number < 2 else "eval",
        config={"number": number, "nested": {"deep": [1, {"a": None}]}},
        tags=["all"],
    )
    for step in range(20):
        run.log({"loss": 1 / (step + 1), "deep": {"acc": step}, "text": "x"})
    run.summary["best"] = {"loss": 0.05, "at": {"step": 19}}
    if number == 0:
        (SCRATCH / "notes.txt").write_text("first")
        run.save(str(SCRATCH / "notes.txt"), base_path=str(SCRATCH))
        model = wandb.Artifact("net", type="model")
        with model.new_file("a.txt") as f:
            f.write("a")
        run.log_artifact(model).wait()
    run.finish()
    runs[number] = run.id
P = f"{run.entity}/{proj}"
api = wandb.Api()


def names(**asked):
    return sorted(r.name for r in wandb.Api().runs(P, **asked))


# --- what there is to plot
seen = api.run(f"{P}/{runs[0]}")
keys = seen.history_keys if hasattr(seen, "history_keys") else seen._attrs.get("historyKeys")
if not keys:
    keys = api.runs(P, lazy=False)[0]._attrs.get("historyKeys")
assert {"loss", "deep.acc", "text", "_step"} <= set(keys["keys"]), keys
assert keys["lastStep"] == 19 and keys["keys"]["loss"]["typeCounts"][0]["type"] == "number"
sampled = seen.history(keys=["loss", "deep.acc"], samples=5, pandas=False)
assert len(sampled) == 5 and sampled[0]["_step"] == 0 and sampled[-1]["deep.acc"] == 19
frame = seen.history(samples=10)
assert list(frame["_step"])[0] == 0 and len(frame) == 10 and "deep.acc" in frame.columns, frame.columns
assert [row["loss"] for row in seen.scan_history(keys=["loss"], min_step=5, max_step=8)] == [1 / 6, 1 / 7, 1 / 8]

# --- lazy and full
lazy, full = api.runs(P, per_page=2, lazy=True), api.runs(P, per_page=2, lazy=False)
assert len(lazy) == len(full) == 4
assert [r.id for r in lazy] == [r.id for r in full] == [runs[n] for n in range(4)]
assert lazy[1].config["number"] == 1 and full[1].summary["best"]["at"]["step"] == 19
assert full[0].config["nested"] == {"deep": [1, {"a": None}]}

# --- projects, users, teams
found = {p.name: p for p in api.projects(api.default_entity, per_page=2)}
assert proj in found and found[proj].entity == api.default_entity
assert api.project(proj, entity=api.default_entity).name == proj
assert api.viewer.username and api.viewer.username in [u.username for u in api.users(api.viewer.username)]
assert api.user(api.viewer.username).username == api.viewer.username
print("teams", api.viewer.teams)
assert api.default_entity in api.viewer.teams, api.viewer.teams

# --- files
file = seen.file("notes.txt")
assert file.download(root=str(SCRATCH / "dl")).read() == "first"
try:
    file.download(root=str(SCRATCH / "dl"))
except (ValueError, wandb.errors.CommError) as exists:
    assert "exist" in str(exists)
else:
    raise SystemExit("a file was written over")
(SCRATCH / "dl" / "notes.txt").write_text("mine")
assert file.download(root=str(SCRATCH / "dl"), exist_ok=True).read() == "mine"
assert file.download(root=str(SCRATCH / "dl"), replace=True).read() == "first"
assert file.mimetype == "text/plain" and file.size == 5, file.mimetype

# --- edits of one run
seen.config["added"], seen.notes, seen.tags, seen.name, seen.group = 1, "a note", ["all", "one"], "first", "edited"
seen.summary["late"] = {"a": {"b": 2}}
seen.summary.update()
seen.update()
again = wandb.Api().run(f"{P}/{runs[0]}")
assert (again.name, again.notes, again.tags, again.group) == ("first", "a note", ["all", "one"], "edited")
assert again.config["added"] == 1 and again.config["number"] == 0 and again.state == "finished"
assert again.summary["late"]["a"]["b"] == 2 and again.summary["best"]["loss"] == 0.05
with wandb.init(project=proj, entity=ENTITY, id=runs[0], resume="must", config={"number": 9}) as resumed:
    try:
        resumed.config.update({"added": 5})
    except wandb.Error as refused:
        assert "allow_val_change" in str(refused)
    resumed.config.update({"added": 5}, allow_val_change=True)
assert wandb.Api().run(f"{P}/{runs[0]}").config["added"] == 5

# --- groups, job types
assert names(filters={"group": "odd"}) == ["run 1", "run 3"]
assert names(filters={"$and": [{"jobType": "eval"}, {"config.number": {"$gt": 2}}]}) == ["run 3"]

# --- runs of sweeps, wherever a filter says so
sweep = wandb.sweep({"method": "grid", "parameters": {"x": {"values": [1, 2]}}}, project=proj, entity=ENTITY)
other = wandb.sweep({"method": "random", "parameters": {"x": {"min": 0.0, "max": 1.0}}}, project=proj, entity=ENTITY)


def work():
    with wandb.init() as inner:
        inner.log({"x": inner.config["x"]})


wandb.agent(sweep, work, project=proj, entity=ENTITY)
wandb.agent(other, work, project=proj, entity=ENTITY, count=1)
assert len(names(filters={"sweep": sweep})) == 2
assert len(names(filters={"$or": [{"sweep": sweep}, {"sweep": other}, {"config.number": 3}]})) == 4
assert len(names(filters={"sweep": {"$in": [sweep, other]}})) == 3
assert len(names(filters={"$and": [{"sweep": {"$ne": sweep}}, {"config.x": {"$exists": True}}]})) == 1
assert len(names(filters={"sweep": None})) == 4 and names(filters={"sweep": "nothere"}) == []


# --- what the vendor's pages send: by filter, with one deletion each
def gql(document, **variables):
    return wandb.Api()._service_api.execute_graphql(document, variables)


entity = wandb.Api().default_entity
gql(
    f"""mutation M($f: JSONString) {{ modifyRuns(input: {{entityName: "{entity}", projectName: "{proj}", filters: $f,
    addTags: ["bulk"], removeTags: ["all"]}}) {{ runs {{ name tags }} }} }}""",
    f=json.dumps({"config.number": {"$in": [2, 3]}}),
)
assert names(filters={"tags": "bulk"}) == ["run 2", "run 3"]
assert names(filters={"tags": "all"}) == ["first", "run 1"]
gql(
    f'mutation M($f: JSONString!) {{ deleteRuns(input: {{entityName: "{entity}", projectName: "{proj}", filters: $f}}) {{ errors }} }}',
    f=json.dumps({"$or": [{"tags": "bulk"}, {"sweep": other}]}),
)
assert "run 2" not in names() and names(filters={"sweep": other}) == []
gql(
    f'mutation M($f: JSONString!) {{ undeleteRuns(input: {{entityName: "{entity}", projectName: "{proj}", filters: $f}}) '
    "{ clientMutationId } }",
    f=json.dumps({"tags": "bulk"}),
)
assert names(filters={"tags": "bulk"}) == ["run 2", "run 3"] and names(filters={"sweep": other}) == []
gql(
    f'mutation M($f: JSONString!) {{ moveRuns(input: {{filters: $f, sourceEntityName: "{entity}", sourceProjectName: "{proj}", '
    f'destinationEntityName: "{entity}", destinationProjectName: "{proj}-moved"}}) {{ task {{ id state }} }} }}',
    f=json.dumps({"name": runs[3]}),
)
assert [r.id for r in wandb.Api().runs(f"{entity}/{proj}-moved")] == [runs[3]] and "run 3" not in names()
sweep_id = wandb.Api().sweep(f"{P}/{sweep}")._attrs["id"]
gql("mutation M($i: ID!) { deleteSweep(input: {id: $i, deleteRuns: true}) { affectedRuns } }", i=sweep_id)
assert names(filters={"sweep": sweep}) == [] and sweep not in [s.id for s in wandb.Api().project(proj, entity).sweeps()]

# --- a run with what it made
wandb.Api().run(f"{P}/{runs[0]}").delete(delete_artifacts=True)
assert not wandb.Api().artifact_exists(f"{P}/net:v0") and "first" not in names()
gql(
    f'mutation M($f: JSONString!) {{ undeleteRuns(input: {{entityName: "{entity}", projectName: "{proj}", filters: $f}}) '
    "{ clientMutationId } }",
    f=json.dumps({"name": runs[0]}),
)
assert wandb.Api().artifact_exists(f"{P}/net:v0") and "first" in names()
assert Path(wandb.Api().artifact(f"{P}/net:v0").download(root=str(SCRATCH / "net"))).is_dir()
done("s44")

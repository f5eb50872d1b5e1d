"""new_draft without downloading, incremental versions, tags, moving collections, aliases of many versions, ids of the client."""

from _scratch import ENTITY, SCRATCH, done, uniq

# isort: split
import wandb

proj = uniq("s14")
run = wandb.init(project=proj, entity=ENTITY)
P = f"{run.entity}/{proj}"
first = wandb.Artifact("ds", type="dataset")
for name in ("a.txt", "b.txt"):
    with first.new_file(name) as f:
        f.write(f"content of {name}")
first = run.log_artifact(first, aliases=["start"]).wait()

draft = first.new_draft()
with draft.new_file("c.txt") as f:
    f.write("content of c.txt")
draft.remove("a.txt")
second = run.log_artifact(draft).wait()
assert second.version == "v1" and sorted(second.manifest.entries) == ["b.txt", "c.txt"]
folder = wandb.Api().artifact(f"{P}/ds:v1").download(root=str(SCRATCH / "v1"))
assert (SCRATCH / "v1" / "b.txt").read_text() == "content of b.txt", folder

more = wandb.Artifact("ds", type="dataset", incremental=True)
with more.new_file("d.txt") as f:
    f.write("content of d.txt")
third = run.log_artifact(more).wait()
assert sorted(wandb.Api().artifact(f"{P}/ds:v2").manifest.entries) == ["b.txt", "c.txt", "d.txt"], third.version

points = wandb.Artifact("points", type="dataset")
points.add_reference(first.get_entry("a.txt").ref_url(), name="there.txt")
points = run.log_artifact(points).wait()
wandb.Api().artifact(f"{P}/points:v0").download(root=str(SCRATCH / "points"))
assert (SCRATCH / "points" / "there.txt").read_text() == "content of a.txt"
run.finish()

api = wandb.Api()
api.artifact(f"{P}/ds:v2").aliases.append("never saved")
moved = api.artifact(f"{P}/ds:v2")
moved.aliases.append("start")
moved.save()
assert wandb.Api().artifact(f"{P}/ds:start").version == "v2" and wandb.Api().artifact(f"{P}/ds:v0").aliases == []
collection = wandb.Api().artifact_collection("dataset", f"{P}/ds")
assert sorted(collection.aliases) == ["latest", "start"]
collection.description, collection.tags = "what it is", ["raw"]
collection.save()
collection = wandb.Api().artifact_collection("dataset", f"{P}/ds")
assert collection.description == "what it is" and collection.tags == ["raw"]
collection.name = "renamed"
collection.save()
assert wandb.Api().artifact(f"{P}/renamed:start").version == "v2" and not wandb.Api().artifact_exists(f"{P}/ds:v0")
assert [a.version for a in wandb.Api().artifacts("dataset", f"{P}/renamed")] == ["v2", "v1", "v0"]
done("s14")

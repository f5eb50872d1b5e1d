"""Registries: made, linked into, searched, aliases of their own, unlinked, deleted; the source is never touched."""

from _scratch import ENTITY, SCRATCH, done, uniq

# isort: split
import wandb

proj = uniq("s48")
reg = uniq("models").replace("-", "")
api = wandb.Api()
entity = api.default_entity
registry = api.create_registry(
    name=reg, visibility="organization", description="chosen models", artifact_types=["model"]
)
assert registry.full_name == f"wandb-registry-{reg}" and registry.entity == entity, registry.path
assert registry.allow_all_artifact_types is False and list(registry.artifact_types) == ["model"]
try:
    api.create_registry(name=reg, visibility="organization")
except ValueError as refused:
    assert "already exists" in str(refused)
else:
    raise SystemExit("a registry was made twice")


def model(run, number):
    made = wandb.Artifact("net", type="model", metadata={"n": number})
    with made.new_file("weights.txt") as f:
        f.write(f"weights {number}")
    (SCRATCH / f"{number}.bin").write_text(f"elsewhere {number}")
    made.add_reference(f"file://{SCRATCH}/{number}.bin", name="far.bin")
    return run.log_artifact(made).wait()


run = wandb.init(project=proj, entity=ENTITY)
first, second = model(run, 1), model(run, 2)
target = f"wandb-registry-{reg}/Best net"
linked = run.link_artifact(first, target, aliases=["staging"])
assert linked.is_link and linked.version == "v0" and linked.name == "Best net:v0", linked.qualified_name
assert linked.source_qualified_name == f"{entity}/{proj}/net:v0" and set(linked.aliases) == {"staging", "latest"}
again = second.link(target, aliases=["production"])
assert again.version == "v1" and set(again.aliases) == {"production", "latest"}
assert first.link(target).version == "v0", "linked twice is linked once"
data = wandb.Artifact("rows", type="dataset")
with data.new_file("a.txt") as f:
    f.write("a")
data = run.log_artifact(data).wait()
try:
    data.link(target)
except Exception as refused:
    assert "model" in str(refused), refused
    print("wrong type ->", str(refused)[:120])
else:
    raise SystemExit("a dataset was linked into a registry of models")
plain = data.link(f"{proj}/picked", aliases=["good"])
assert plain.is_link and plain.collection.name == "picked"
try:
    data.link(f"{proj}/net")
except Exception as refused:
    print("into a sequence ->", str(refused)[:120])
else:
    raise SystemExit("a dataset was linked into the collection of a run")
run.finish()

# --- reading: by path, by alias, by registry
api = wandb.Api()
got = api.artifact(f"wandb-registry-{reg}/Best net:production")
assert got.is_link and got.source_version == "v1" and got.version == "v1" and got.source_name == "net:v1"
# One at a time: without its cache, the client now and then loses one of two that it fetches at once.
for name in ("weights.txt", "far.bin"):
    folder = got.download(root=str(SCRATCH / "got"), skip_cache=True, path_prefix=name)
assert (SCRATCH / "got" / "weights.txt").read_text() == "weights 2", folder
assert (SCRATCH / "got" / "far.bin").read_text() == "elsewhere 2"
assert sorted(got.manifest.entries) == ["far.bin", "weights.txt"]
assert got.logged_by().id == run.id
source = api.artifact(f"{entity}/{proj}/net:v1")
assert not source.is_link and [each.qualified_name for each in source.linked_artifacts] == [
    f"{entity}/wandb-registry-{reg}/Best net:v1"
], source.linked_artifacts
assert got.source_artifact.qualified_name == source.qualified_name
names = [each.name for each in api.registries(filter={"name": {"$regex": "models"}}, per_page=1)]
assert reg in names, names
found = api.registry(reg)
assert found.description == "chosen models"
assert [c.name for c in found.collections()] == ["Best net"]
assert [c.name for c in found.collections(filter={"name": "none"})] == []
assert [(v.name, v.source_name) for v in found.versions()] == [("Best net:v0", "net:v0"), ("Best net:v1", "net:v1")]
assert [v.version for v in found.versions(filter={"alias": "production"})] == ["v1"]
assert [v.version for v in api.registries(filter={"name": reg}).collections().versions(per_page=1)] == ["v0", "v1"]
assert [c.name for c in api.artifact_type("model", f"wandb-registry-{reg}").collections()] == ["Best net"]
assert [v.version for v in api.artifacts("model", f"wandb-registry-{reg}/Best net")] == ["v1", "v0"]

# --- changing: aliases of the link are its own; the description is that of the source
got.aliases.append("blessed")
got.aliases.remove("production")
got.save()
assert set(wandb.Api().artifact(f"wandb-registry-{reg}/Best net:v1").aliases) == {"blessed", "latest"}
assert set(wandb.Api().artifact(f"{entity}/{proj}/net:v1").aliases) == {"latest"}
collection = api.artifact_collection("model", f"wandb-registry-{reg}/Best net")
assert collection.is_sequence() is False
collection.description, collection.tags = "the best", ["gold"]
collection.save()
assert wandb.Api().artifact_collection("model", f"wandb-registry-{reg}/Best net").tags == ["gold"]
assert [c.name for c in api.registries().collections(filter={"tag": "gold"})] == ["Best net"]
found.description = "better models"
found.allow_all_artifact_types = True
found.save()
assert wandb.Api().registry(reg).allow_all_artifact_types is True
consumer = wandb.init(project=proj, entity=ENTITY)
used = consumer.use_artifact(f"wandb-registry-{reg}/Best net:blessed")
assert used.version == "v1"
consumer.finish()
assert [r.id for r in wandb.Api().artifact(f"{entity}/{proj}/net:v1").used_by()] == [consumer.id]
assert [a.name for a in wandb.Api().run(f"{proj}/{consumer.id}").used_artifacts()] == ["net:v1"]

# --- taking away: the link, and only the link; then a source with its links
wandb.Api().artifact(f"wandb-registry-{reg}/Best net:v1").unlink()
assert wandb.Api().artifact_exists(f"{entity}/{proj}/net:v1")
assert not wandb.Api().artifact_exists(f"wandb-registry-{reg}/Best net:v1")
wandb.Api().artifact(f"{entity}/{proj}/net:v1").link(f"{proj}/shortlist", aliases=["keep"])
try:
    wandb.Api().artifact(f"{entity}/{proj}/net:v1").delete()
except Exception as refused:
    assert "alias keep" in str(refused) and "delete_aliases=True" in str(refused), refused
    print("source of an aliased link ->", str(refused)[:140])
else:
    raise SystemExit("the source of a link with an alias was deleted")
wandb.Api().artifact(f"{entity}/{proj}/net:v1").delete(delete_aliases=True)
assert not wandb.Api().artifact_exists(f"{proj}/shortlist:keep")
wandb.Api().artifact_collection("dataset", f"{entity}/{proj}/picked").delete()
assert not wandb.Api().artifact_exists(f"{proj}/picked:good") and wandb.Api().artifact_exists(f"{proj}/rows:v0")
kept = api.create_registry(name=reg + "x", visibility="restricted")
assert kept.allow_all_artifact_types and kept.visibility == "restricted"
kept.name = reg + "y"
kept.save()
assert wandb.Api().registry(reg + "y").full_name == f"wandb-registry-{reg}y"
kept.delete()
try:
    wandb.Api().registry(reg + "y")
except ValueError as gone:
    print("deleted registry ->", str(gone)[:100])
else:
    raise SystemExit("a deleted registry was found")
done("s48")

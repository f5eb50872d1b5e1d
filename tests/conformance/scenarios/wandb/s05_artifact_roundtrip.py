"""log_artifact / use_artifact / aliases / download (bytes equal) / dedupe / versions / logged_artifacts / used_artifacts / delete."""

import os
import time
from pathlib import Path

from _scratch import ENTITY, SCRATCH, done, uniq

# isort: split
import wandb

proj = uniq("s05")
src = SCRATCH / "src"
(src / "sub").mkdir(parents=True)
blobs = {
    "a.bin": os.urandom(300_000),
    "sub/b.txt": b"hello\n",
    "empty": b"",
    "sub/name with space & \xc3\xa9.dat".encode("latin1").decode("utf8"): os.urandom(1000),
}
for n, b in blobs.items():
    (src / n).write_bytes(b)


def read(d):
    return {p.relative_to(d).as_posix(): p.read_bytes() for p in Path(d).rglob("*") if p.is_file()}


run = wandb.init(project=proj, entity=ENTITY)
art = wandb.Artifact("ds", type="dataset", description="d", metadata={"rows": 3, "nested": {"k": [1]}})
art.add_dir(str(src))
with art.new_file("gen.json") as f:
    f.write('{"x":1}')
blobs["gen.json"] = b'{"x":1}'
t = time.time()
logged = run.log_artifact(art, aliases=["best", "prod"], tags=["tagA"])
logged.wait()
t_up = time.time() - t
assert logged.version == "v0" and set(logged.aliases) == {
    "latest",
    "best",
    "prod",
}, logged.aliases
assert (
    logged.state == "COMMITTED"
    and logged.type == "dataset"
    and logged.metadata["rows"] == 3
    and logged.tags == ["tagA"]
)
assert logged.size == sum(map(len, blobs.values())) and logged.file_count == len(blobs)
same = wandb.Artifact("ds", type="dataset")
same.add_dir(str(src))
with same.new_file("gen.json") as f:
    f.write('{"x":1}')
assert run.log_artifact(same).wait().version == "v0", "identical content must dedupe"
v1 = wandb.Artifact("ds", type="dataset")
v1.add_dir(str(src))
(SCRATCH / "refd.txt").write_text("R")
v1.add_reference(f"file://{SCRATCH}/refd.txt", name="ref.txt")
v1 = run.log_artifact(v1).wait()
assert v1.version == "v1" and "latest" in v1.aliases
ent, rid = run.entity, run.id
run.finish()
P = f"{ent}/{proj}"
os.environ["WANDB_CACHE_DIR"] = str(SCRATCH / "cache2")  # cold cache so bytes really come from the server
import contextlib

from wandb.sdk.artifacts import artifact_file_cache as afc

with contextlib.suppress(AttributeError):
    afc.get_artifact_file_cache.cache_clear()
r2 = wandb.init(project=proj, entity=ent)
used = r2.use_artifact("ds:best")
assert used.version == "v0"
t = time.time()
d = used.download(root=str(SCRATCH / "dl"))
t_dl = time.time() - t
got = read(d)
assert got == blobs, {k: (len(v), len(got.get(k, b""))) for k, v in blobs.items() if got.get(k) != v} or set(got) ^ set(
    blobs
)
r2.finish()
api = wandb.Api()
a = api.artifact(f"{P}/ds:v0")
assert a.digest == logged.digest and set(a.aliases) == {"best", "prod"}
assert read(a.download(root=str(SCRATCH / "dl2"))) == blobs
assert a.get_entry("sub/b.txt").download(root=str(SCRATCH / "dl3")) and sorted(f.name for f in a.files()) == sorted(
    blobs
)
assert api.artifact(f"{P}/ds:latest").version == "v1" and api.artifact(f"{P}/ds").version == "v1"
assert [x.name for x in api.run(f"{P}/{rid}").logged_artifacts()] == ["ds:v0", "ds:v1"]
assert [x.name for x in api.run(f"{P}/{r2.id}").used_artifacts()] == ["ds:v0"]
assert a.logged_by().id == rid and [r.id for r in a.used_by()] == [r2.id]
assert [x.version for x in api.artifacts("dataset", f"{P}/ds")] == ["v1", "v0"]
assert [t.name for t in api.artifact_types(P)] == ["dataset"] and [
    c.name for c in api.artifact_type("dataset", P).collections()
] == ["ds"]
assert (
    api.artifact_exists(f"{P}/ds:v0")
    and not api.artifact_exists(f"{P}/ds:v9")
    and not api.artifact_exists(f"{P}/nope:v0")
    and api.artifact_collection_exists(f"{P}/ds", "dataset")
)
assert read(api.artifact(f"{P}/ds:v1").download(root=str(SCRATCH / "dl4"))) == {
    **{k: v for k, v in blobs.items() if k != "gen.json"},
    "ref.txt": b"R",
}, "reference entries must be in membership.files"
a.aliases.append("extra")
a.aliases.remove("prod")
a.description = "new"
a.metadata["more"] = 1
a.tags = ["tagB"]
a.save()
b = wandb.Api().artifact(f"{P}/ds:extra")
assert (
    b.version == "v0"
    and set(b.aliases) == {"best", "extra"}
    and b.description == "new"
    and b.metadata["more"] == 1
    and b.tags == ["tagB"]
)
try:
    wandb.Api().artifact(f"{P}/ds:v0").delete()
    print("delete aliased artifact without flag: allowed")
except Exception as e:
    print("delete aliased artifact without flag ->", type(e).__name__, str(e)[:90])
wandb.Api().artifact(f"{P}/ds:v0").delete(delete_aliases=True)
assert not wandb.Api().artifact_exists(f"{P}/ds:v0") and wandb.Api().artifact_exists(f"{P}/ds:v1")
wandb.Api().artifact_collection("dataset", f"{P}/ds").delete()
assert not wandb.Api().artifact_exists(f"{P}/ds:v1")
done("s05", upload_s=f"{t_up:.2f}", download_s=f"{t_dl:.2f}")

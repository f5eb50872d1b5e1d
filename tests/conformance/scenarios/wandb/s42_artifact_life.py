"""Artifacts of several writers, with a time to live, with references, with many files, downloaded in part."""

import hashlib
import http.server
import os
import subprocess
import sys
import threading
import urllib.request
from datetime import timedelta
from pathlib import Path

from _scratch import ENTITY, SCRATCH, done, uniq

# isort: split
import wandb

proj = uniq("s42")

WRITER = """
import sys, wandb
project, number, last = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "last"
run = wandb.init(project=project, group="together", job_type="writer", settings=wandb.Settings(silent=True))
part = wandb.Artifact("together", type="dataset", metadata={"from": "all"})
for name in (f"part-{number}.txt", f"deep/{number}.bin"):
    with part.new_file(name) as f:
        f.write(f"{name} of {number}")
if last:
    run.finish_artifact(part, distributed_id="group-1", aliases=["whole"])
else:
    run.upsert_artifact(part, distributed_id="group-1")
run.finish()
"""
script = SCRATCH / "writer.py"
script.write_text(WRITER)


def write(number, *, last=False):
    argv = [sys.executable, str(script), proj, str(number), "last" if last else "more"]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


both = [write(0), write(1)]
for each in both:
    said = each.communicate(timeout=90)[0]
    assert each.returncode == 0, said
api = wandb.Api()
P = f"{api.default_entity}/{proj}"
assert not api.artifact_exists(f"{P}/together:v0"), "visible before it was finished"
last = write(2, last=True)
said = last.communicate(timeout=90)[0]
assert last.returncode == 0, said
whole = wandb.Api().artifact(f"{P}/together:whole")
expected = {name: f"{name} of {n}" for n in range(3) for name in (f"part-{n}.txt", f"deep/{n}.bin")}
assert sorted(whole.manifest.entries) == sorted(expected) and whole.version == "v0", whole.manifest.entries
folder = Path(whole.download(root=str(SCRATCH / "whole")))
assert {p.relative_to(folder).as_posix(): p.read_text() for p in folder.rglob("*") if p.is_file()} == expected
assert whole.digest == whole.manifest.digest() and whole.file_count == 6

# --- time to live: kept, shown, changed, taken back
run = wandb.init(project=proj, entity=ENTITY)


def made(name, *, ttl=None):
    art = wandb.Artifact(name, type="model")
    with art.new_file("a.txt") as f:
        f.write(name)
    if ttl:
        art.ttl = ttl
    return run.log_artifact(art).wait()


short = made("short", ttl=timedelta(days=3))
assert short.ttl == timedelta(days=3)
assert wandb.Api().artifact(f"{P}/short:v0").ttl == timedelta(days=3)
short.ttl = timedelta(seconds=1)
short.save()
kept = made("kept", ttl=timedelta(days=3))
kept.ttl = None
kept.save()
assert wandb.Api().artifact(f"{P}/kept:v0").ttl is None
print("ttl", wandb.Api().artifact(f"{P}/short:v0").ttl, wandb.Api().artifact(f"{P}/kept:v0").ttl)


# --- references: what is elsewhere stays there
class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_words):
        pass


far = SCRATCH / "far"
(far / "sub").mkdir(parents=True)
(far / "one.txt").write_text("far away")
(far / "sub" / "two.txt").write_text("farther")
web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), lambda *a: Quiet(*a, directory=str(far)))
threading.Thread(target=web.serve_forever, daemon=True).start()
address = f"http://127.0.0.1:{web.server_port}"
refs = wandb.Artifact("refs", type="dataset")
refs.add_reference(f"{address}/one.txt", name="web.txt")
refs.add_reference(f"file://{far}", name="folder")
refs.add_reference("s3://bucket/key/model.bin", name="s3.bin", checksum=False)
refs.add_reference("hdfs://cluster/other.bin", name="other.bin")
run.log_artifact(refs).wait()
got = wandb.Api().artifact(f"{P}/refs:v0")
entries = got.manifest.entries
assert entries["s3.bin"].ref == "s3://bucket/key/model.bin" and entries["other.bin"].ref == "hdfs://cluster/other.bin"
assert entries["web.txt"].ref == f"{address}/one.txt" and min(entries) == "folder/one.txt", sorted(entries)
assert got.get_entry("web.txt").ref_target() == f"{address}/one.txt"
target = Path(got.download(root=str(SCRATCH / "refs"), path_prefix="folder"))
assert (target / "folder/sub/two.txt").read_text() == "farther" and not (target / "s3.bin").exists()
assert Path(got.get_entry("web.txt").download(root=str(SCRATCH / "refs"))).read_text() == "far away"
web.shutdown()

# --- many files: pages of the manifest's files, names that need care
many = wandb.Artifact("many", type="dataset")
source = SCRATCH / "many"
source.mkdir()
for number in range(1200):
    (source / f"{number % 7}").mkdir(exist_ok=True)
    (source / f"{number % 7}" / f"file {number:05}.txt").write_text(str(number))
many.add_dir(str(source))
many = run.log_artifact(many).wait()
again = wandb.Api().artifact(f"{P}/many:v0")
assert len(again.manifest.entries) == again.file_count == 1200
assert len(list(again.files(per_page=500))) == len(again.files()) == 1200
assert wandb.Api().artifact(f"{P}/many:{again.digest}").version == "v0"
one = again.get_entry("3/file 00003.txt").download(root=str(SCRATCH / "one"))
assert Path(one).read_text() == "3"
folder = Path(again.download(root=str(SCRATCH / "some"), path_prefix="5/"))
assert len([p for p in folder.rglob("*") if p.is_file()]) == 171, folder

# --- a download that broke off goes on where it was
big = wandb.Artifact("big", type="model")
content = os.urandom(3_000_000)
(SCRATCH / "big.bin").write_bytes(content)
big.add_file(str(SCRATCH / "big.bin"))
big = run.log_artifact(big).wait()
[file] = wandb.Api().artifact(f"{P}/big:v0").files()
url = file.direct_url
head = urllib.request.urlopen(urllib.request.Request(url, headers={"Range": "bytes=0-999999"}), timeout=30)
assert head.status == 206 and head.headers["Content-Range"] == "bytes 0-999999/3000000"
first = head.read()
rest = urllib.request.Request(url, headers={"Range": "bytes=1000000-", "If-Range": head.headers["ETag"]})
with urllib.request.urlopen(rest, timeout=30) as answer:
    assert answer.status == 206 and first + answer.read() == content
folder = Path(wandb.Api().artifact(f"{P}/big:v0").download(root=str(SCRATCH / "big"), multipart=True))
assert hashlib.sha256((folder / "big.bin").read_bytes()).digest() == hashlib.sha256(content).digest()

# --- collections: searched, renamed, of another type, deleted
models = wandb.Api().artifact_type("model", P)
assert [c.name for c in models.collections(filters={"name": {"$in": ["kept", "big"]}}, order="+name")] == [
    "big",
    "kept",
]
assert len(models.collections(per_page=1)) == 3
collection = wandb.Api().artifact_collection("model", f"{P}/kept")
collection.change_type("checkpoint")
assert wandb.Api().artifact_collection("checkpoint", f"{P}/kept").type == "checkpoint"
assert wandb.Api().artifact(f"{P}/kept:v0").type == "checkpoint"
run.finish()
assert [r.job_type for r in wandb.Api().runs(P, filters={"group": "together"})] == ["writer"] * 3
done("s42")

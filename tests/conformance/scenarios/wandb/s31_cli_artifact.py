"""`wandb artifact put`, `get` and `ls`: a folder, a file, a new version, a reference."""

import os
import subprocess
import sys
from pathlib import Path

import wandb
from _scratch import SCRATCH, done, uniq

WANDB = str(Path(sys.executable).parent / "wandb")
PROJ = uniq("s31")
env = {name: value for name, value in os.environ.items() if name != "WANDB_SILENT"}


def cli(*words):
    ran = subprocess.run([WANDB, *words], env=env, capture_output=True, text=True, timeout=120, cwd=SCRATCH)
    assert ran.returncode == 0, (words, ran.stdout + ran.stderr)
    return ran.stdout + ran.stderr


folder = SCRATCH / "set"
(folder / "deep").mkdir(parents=True)
(folder / "a.txt").write_text("one")
(folder / "deep" / "b ü.txt").write_text("two")
said = cli(
    "artifact", "put", "--name", f"{PROJ}/set", "--type", "dataset", "-d", "first try", "-a", "good", str(folder)
)
assert f"{PROJ}/set:v0" in said, said
(folder / "a.txt").write_text("one more")
assert f"{PROJ}/set:v1" in cli("artifact", "put", "--name", f"{PROJ}/set", "--type", "dataset", str(folder))
assert f"{PROJ}/set:v1" in cli("artifact", "put", "--name", f"{PROJ}/set", "--type", "dataset", str(folder))
model = SCRATCH / "model.bin"
model.write_bytes(os.urandom(300_000))
assert f"{PROJ}/net:v0" in cli("artifact", "put", "--name", f"{PROJ}/net", "--type", "model", str(model))

api = wandb.Api()
entity = api.default_entity
assert api.artifact(f"{entity}/{PROJ}/set:v0").description == "first try"
assert {"good"} <= set(api.artifact(f"{entity}/{PROJ}/set:v0").aliases)
for version, text in (("v0", "one"), ("latest", "one more")):
    target = SCRATCH / f"got-{version}"
    cli("artifact", "get", "--root", str(target), f"{entity}/{PROJ}/set:{version}")
    assert (target / "a.txt").read_text() == text
    assert (target / "deep" / "b ü.txt").read_text() == "two"
cli("artifact", "get", "--type", "model", "--root", str(SCRATCH / "net"), f"{entity}/{PROJ}/net")
assert (SCRATCH / "net" / "model.bin").read_bytes() == model.read_bytes()

listed = cli("artifact", "ls", f"{entity}/{PROJ}")
assert "set:v1" in listed and "net:v0" in listed, listed
listed = cli("artifact", "ls", "--type", "model", f"{entity}/{PROJ}")
assert "net:v0" in listed and "set:v1" not in listed, listed

refused = subprocess.run(
    [WANDB, "artifact", "get", f"{entity}/{PROJ}/none:v7"], env=env, capture_output=True, text=True, timeout=120
)
assert refused.returncode != 0 and "Traceback" not in refused.stderr, refused.stderr
done("s31")

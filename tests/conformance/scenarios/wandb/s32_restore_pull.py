"""`wandb pull` fetches a run's files, `wandb restore` its config, commit and uncommitted changes."""

import os
import subprocess
import sys
from pathlib import Path

import wandb
from _scratch import SCRATCH, done, uniq

WANDB = str(Path(sys.executable).parent / "wandb")
PROJ = uniq("s32")
repo = SCRATCH / "repo"
repo.mkdir()
env = {name: value for name, value in os.environ.items() if name != "WANDB_SILENT"}
env |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}


def git(*words):
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    return subprocess.run(["git", *who, *words], cwd=repo, env=env, check=True, capture_output=True, text=True).stdout


def cli(*words, cwd):
    ran = subprocess.run([WANDB, *words], env=env, capture_output=True, text=True, timeout=120, cwd=cwd)
    assert ran.returncode == 0, (words, ran.stdout + ran.stderr)
    return ran.stdout + ran.stderr


git("init", "-q", "-b", "main")
(repo / "train.py").write_text("lr = 0.1\n")
(repo / ".gitignore").write_text("wandb/\n")
git("add", ".")
git("commit", "-q", "-m", "first")
commit = git("rev-parse", "HEAD").strip()
git("init", "-q", "--bare", str(SCRATCH / "origin.git"))
git("remote", "add", "origin", str(SCRATCH / "origin.git"))
git("push", "-q", "origin", "main")
(repo / "train.py").write_text("lr = 0.2\n")  # not committed: goes into diff.patch

code = r"""
import sys, wandb
run = wandb.init(project=sys.argv[1], save_code=True, config={"lr": 0.2, "deep": {"a": [1, None]}})
open("notes ü.txt", "w").write("hello")
run.save("notes ü.txt")
run.log({"x": 1})
run.finish()
print("RUNID", run.id)
"""
script = repo / "job.py"
script.write_text(code)
ran = subprocess.run(
    [sys.executable, str(script), PROJ], cwd=repo, env=env, capture_output=True, text=True, timeout=120
)
assert ran.returncode == 0, ran.stderr
rid = next(line.split()[1] for line in ran.stdout.splitlines() if line.startswith("RUNID"))

api = wandb.Api()
run = api.run(f"{PROJ}/{rid}")
assert run.commit == commit, run.commit
assert run.metadata["git"]["commit"] == commit
names = {file.name for file in run.files()}
assert {"diff.patch", "notes ü.txt", "config.yaml", "wandb-metadata.json"} <= names, names

pulled = SCRATCH / "pulled"
pulled.mkdir()
said = cli("pull", "-p", PROJ, "-e", run.entity, rid, cwd=pulled)
assert {str(path.relative_to(pulled)) for path in pulled.rglob("*") if path.is_file()} >= names, said
assert (pulled / "notes ü.txt").read_text() == "hello"
(pulled / "notes ü.txt").write_text("spoiled")
cli("pull", "-p", PROJ, "-e", run.entity, rid, cwd=pulled)
assert (pulled / "notes ü.txt").read_text() == "hello"

git("stash", "-q")
(repo / "job.py").unlink()
said = cli("restore", f"{run.entity}/{PROJ}/{rid}", cwd=repo)
assert git("branch", "--show-current").strip() == f"wandb/{rid}", said
assert (repo / "train.py").read_text() == "lr = 0.2\n", said
config = next(repo.rglob("config.yaml"), None) or next(Path(os.environ["WANDB_DIR"]).rglob("wandb/config.yaml"))
assert "lr" in config.read_text() and "deep" in config.read_text()

elsewhere = SCRATCH / "elsewhere"
elsewhere.mkdir()
assert "Restored config" in cli("restore", "--no-git", f"{run.entity}/{PROJ}/{rid}", cwd=elsewhere)
done("s32")

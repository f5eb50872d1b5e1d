"""Random and bayes sweeps, a cap of runs, and the command line's own agent with a program."""

import re
import subprocess
import sys
from pathlib import Path

import wandb
import wandb.agents.pyagent

wandb.agents.pyagent.Agent.HEARTBEAT_SLEEP_SECONDS = 0.2
PROJECT = "searches"
entity = wandb.Api().default_entity


def sweep_of(config):
    sweep_id = wandb.sweep(config, project=PROJECT)
    return sweep_id, f"{entity}/{PROJECT}/{sweep_id}"


def train():
    with wandb.init() as run:
        run.log({"accuracy": 1 - (run.config["x"] - 0.3) ** 2})


BAYES = {
    "method": "bayes",
    "metric": {"name": "accuracy", "goal": "maximize"},
    "parameters": {
        "x": {"min": 0.0, "max": 1.0},
        "layers": {"min": 1, "max": 4},
        "lr": {"distribution": "log_uniform_values", "min": 1e-5, "max": 1e-1},
        "batch": {"values": [16, 32]},
    },
}
sweep_id, path = sweep_of(BAYES)
wandb.agent(sweep_id, function=train, project=PROJECT, count=3)
runs = list(wandb.Api().sweep(path).runs)
done = [run.config for run in runs if run.state == "finished"]
assert len(done) == 3 and len({config["x"] for config in done}) == 3, done
assert all(0 <= config["x"] <= 1 and config["layers"] in (1, 2, 3, 4) for config in done), done
assert all(1e-5 <= config["lr"] <= 1e-1 and config["batch"] in (16, 32) for config in done), done
best = wandb.Api().sweep(path)
assert best.best_run().summary["accuracy"] == max(run.summary["accuracy"] for run in runs if run.state == "finished")

# The command line: a program, a cap of runs, and an agent that leaves when nothing is left.
Path("train.py").write_text("import wandb\nwith wandb.init() as run:\n    run.log({'loss': run.config['x']})\n")
Path("sweep.yaml").write_text(
    "program: train.py\nmethod: random\nrun_cap: 1\nmetric: {name: loss, goal: minimize}\n"
    f"command: [{sys.executable}, '${{program}}']\n"
    "parameters:\n  x: {distribution: q_normal, mu: 10, sigma: 2, q: 0.5}\n  y: {distribution: beta, a: 2, b: 5}\n"
)
cli = str(Path(sys.executable).with_name("wandb"))
made = subprocess.run([cli, "sweep", "-p", PROJECT, "sweep.yaml"], check=True, capture_output=True, text=True)
path = re.sub(r"\x1b\[[0-9;]*m", "", made.stdout + made.stderr).split("wandb agent ")[1].split()[0]
subprocess.run([cli, "agent", path], check=True, timeout=60)
sweep = wandb.Api().sweep(path)
assert (sweep.state, [run.state for run in sweep.runs]) == ("FINISHED", ["finished"]), sweep._attrs
assert (sweep.runs[0].config["x"] * 2).is_integer()

print("OK: random, bayes, caps and the command line's agent")

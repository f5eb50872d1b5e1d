"""A grid: every point runs once, also when the agent changes; what belongs to the sweep is found through it."""

import itertools
import subprocess
import sys
from pathlib import Path

import wandb
import wandb.agents.pyagent

wandb.agents.pyagent.Agent.HEARTBEAT_SLEEP_SECONDS = 0.2

CONFIG = {
    "name": "grid sweep",
    "method": "grid",
    "metric": {"name": "loss", "goal": "minimize"},
    "parameters": {
        "lr": {"values": [0.1, 0.01]},
        "optimizer": {"parameters": {"name": {"values": ["sgd", "adam"]}, "momentum": {"value": 0.9}}},
    },
}


def train():
    with wandb.init() as run:
        assert run.config["optimizer"]["momentum"] == 0.9, dict(run.config)
        run.log({"loss": run.config["lr"] + (run.config["optimizer"]["name"] == "sgd")})


sweep_id = wandb.sweep(CONFIG, project="tuning")
entity = wandb.Api().default_entity
path = f"{entity}/tuning/{sweep_id}"
assert wandb.Api().sweep(path).state == "PENDING"

wandb.agent(sweep_id, function=train, project="tuning", count=1)
assert wandb.Api().sweep(path).state == "RUNNING"
wandb.agent(sweep_id, function=train, project="tuning", count=3)  # the rest of the grid

sweep = wandb.Api().sweep(path)
points = sorted((run.config["lr"], run.config["optimizer"]["name"]) for run in sweep.runs)
assert points == sorted(itertools.product([0.1, 0.01], ["sgd", "adam"])), points
assert {run.state for run in sweep.runs} == {"finished"}, [run.state for run in sweep.runs]
assert (sweep.name, sweep.expected_run_count) == ("grid sweep", 4), sweep._attrs
assert sweep.config["method"] == "grid"
best = sweep.best_run()
assert best.summary["loss"] == 0.01, best.summary
assert sweep.best_run(order="-summary_metrics.loss").summary["loss"] == 1.1
assert (best.sweep_name, best.sweep.id) == (sweep_id, sweep_id)
assert [found.name for found in wandb.Api().project("tuning", entity).sweeps()] == ["grid sweep"]
assert len(wandb.Api().runs(f"{entity}/tuning", filters={"sweep": sweep_id})) == 4
agents = sweep.agents()
assert sum(len(list(agent.runs())) for agent in agents) == 4, agents

# A deleted run frees its point, and a resumed sweep fills it again.
cli = [str(Path(sys.executable).with_name("wandb")), "sweep"]
best.delete()
subprocess.run([*cli, "--resume", path], check=True)
wandb.agent(sweep_id, function=train, project="tuning", count=1)
assert sorted(run.config["lr"] for run in wandb.Api().sweep(path).runs) == [0.01, 0.01, 0.1, 0.1]

for flag, state in (("--pause", "PAUSED"), ("--cancel", "CANCELED")):
    subprocess.run([*cli, flag, path], check=True)
    assert wandb.Api().sweep(path).state == state, (flag, wandb.Api().sweep(path).state)

print("OK: a grid is complete, linked, repeatable and can be steered")

"""Early termination: an agent is told to stop a run that is not among the best at the last band that it reached."""

import time

import wandb
import wandb.agents.pyagent

wandb.agents.pyagent.Agent.HEARTBEAT_SLEEP_SECONDS = 0.5

CONFIG = {
    "method": "grid",
    "metric": {"name": "loss", "goal": "minimize"},
    "parameters": {"start": {"values": [1.0, 9.0]}},
    "early_terminate": {"type": "hyperband", "min_iter": 2, "eta": 3},
}
STEPS = 500


def train():
    with wandb.init() as run:
        for step in range(STEPS):
            run.log({"loss": run.config["start"] - step / 1000})
            if run.config["start"] > 5:
                time.sleep(0.1)  # the client sends what it has every 15 s


sweep_id = wandb.sweep(CONFIG, project="stopping")
wandb.agent(sweep_id, function=train, project="stopping", count=2)
runs = {run.config["start"]: run for run in wandb.Api().sweep(f"{wandb.Api().default_entity}/stopping/{sweep_id}").runs}
assert {start: run.state for start, run in runs.items()} == {1.0: "finished", 9.0: "killed"}, runs
assert runs[1.0].lastHistoryStep == STEPS - 1
assert 0 < runs[9.0].lastHistoryStep < STEPS - 100, runs[9.0].lastHistoryStep

print("OK: a run without hope was stopped, and counts as stopped")

"""Libraries that log through the client: LightGBM's callback, and the plots of scikit-learn."""

from _scratch import ENTITY, done, uniq

# isort: split
import lightgbm
import numpy as np
import wandb
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from wandb.integration.lightgbm import log_summary, wandb_callback

proj = uniq("s47")
features, labels = make_classification(n_samples=200, n_features=6, random_state=3)
train = lightgbm.Dataset(features[:150], label=labels[:150])
valid = lightgbm.Dataset(features[150:], label=labels[150:], reference=train)
settings = {"objective": "binary", "metric": ["binary_logloss", "auc"], "verbosity": -1, "num_threads": 1, "seed": 3}
with wandb.init(project=proj, entity=ENTITY, job_type="lightgbm") as run:
    booster = lightgbm.train(
        settings, train, 15, valid_sets=[valid], valid_names=["held"], callbacks=[wandb_callback()]
    )
    log_summary(booster, save_model_checkpoint=True)

with wandb.init(project=proj, entity=ENTITY, job_type="sklearn") as plots:
    model = LogisticRegression().fit(features[:150], labels[:150])
    guesses, chances = model.predict(features[150:]), model.predict_proba(features[150:])
    wandb.sklearn.plot_confusion_matrix(labels[150:], guesses, ["no", "yes"])
    wandb.sklearn.plot_roc(labels[150:], chances, ["no", "yes"])
    wandb.sklearn.plot_precision_recall(labels[150:], chances, ["no", "yes"])
    wandb.sklearn.plot_summary_metrics(model, features[:150], labels[:150], features[150:], labels[150:])
    wandb.sklearn.plot_class_proportions(labels[:150], labels[150:], ["no", "yes"])

P = f"{run.entity}/{proj}"
api = wandb.Api()
boosted = api.run(f"{P}/{run.id}")
losses = [row["held_binary_logloss"] for row in boosted.scan_history(keys=["held_binary_logloss"])]
assert len(losses) == 15 and np.isfinite(losses).all() and losses[-1] < losses[0], losses
assert boosted.config["objective"] == "binary" and boosted.summary["best_iteration"] is not None
assert any(a.type == "model" for a in boosted.logged_artifacts())
plotted = api.run(f"{P}/{plots.id}")
tables = [name for name, value in plotted.summary._json_dict.items() if "table" in str(value)]
assert len(tables) >= 4, plotted.summary._json_dict
assert sum(a.type == "run_table" for a in plotted.logged_artifacts()) >= 4
done("s47", tables=len(tables))

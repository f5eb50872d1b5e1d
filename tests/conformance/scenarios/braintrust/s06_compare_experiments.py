"""CLIENT: braintrust.  Two evals over the same inputs: averages, differences, what got better and what got worse."""

import os
import uuid

BASE = os.environ["BRAINTRUST_BASE_URL"].rstrip("/")
os.environ.setdefault("BRAINTRUST_APP_URL", BASE)
os.environ.setdefault("BRAINTRUST_API_URL", BASE)
import braintrust

P = f"s06-{uuid.uuid4().hex[:8]}"


def log(name, scores, **options):
    experiment = braintrust.init(project=P, experiment=name, **options)
    for given, score in scores.items():
        experiment.log(input={"q": given}, output=score, scores={"acc": score}, metrics={"tokens": 10})
    experiment.flush()
    return experiment


first = log("first", {"a": 0.0, "b": 1.0, "c": 0.5})
alone = first.summarize()
assert alone.comparison_experiment_name is None
assert alone.scores["acc"].score == 0.5 and alone.scores["acc"].diff is None
assert first.fetch_base_experiment() is None

second = log("second", {"a": 1.0, "b": 0.75, "c": 0.5, "d": 0.25})
found = second.summarize()
assert found.comparison_experiment_name == "first", found.comparison_experiment_name
acc = found.scores["acc"]
assert acc.score == 0.625 and abs(acc.diff - 0.25) < 1e-9, acc
assert (acc.improvements, acc.regressions) == (1, 1), acc
assert found.metrics["total_tokens"].metric == 10 and found.metrics["total_tokens"].unit == "tok"
assert found.metrics["total_tokens"].diff == 0
assert "1 improvements, 1 regressions" in str(found), str(found)
base = second.fetch_base_experiment()
assert (base.id, base.name) == (first.id, "first"), base

third = log("third", {"a": 0.0}, base_experiment="first")
assert third.data["base_exp_id"] == first.id
assert third.summarize().comparison_experiment_name == "first"
against = third.summarize(comparison_experiment_id=second.id)
assert against.comparison_experiment_name == "second" and against.scores["acc"].regressions == 1

# Deleted, the base is passed over; the experiment before takes its place.
third.state.api_client().experiments.delete_experiment_id(first.id)
assert third.summarize().comparison_experiment_name == "second"
print("OK s06", acc.score, acc.diff)

"""CLIENT: braintrust.  Attachments: uploaded behind the rows, read back, shared by a dataset and the eval over it."""

import os
import uuid

BASE = os.environ["BRAINTRUST_BASE_URL"].rstrip("/")
os.environ.setdefault("BRAINTRUST_APP_URL", BASE)
os.environ.setdefault("BRAINTRUST_API_URL", BASE)
import braintrust
from braintrust import Attachment, Eval, JSONAttachment, init_dataset

P = f"s08-{uuid.uuid4().hex[:8]}"
BYTES = bytes(range(256)) * 5000

experiment = braintrust.init(project=P, experiment="files")
picture = Attachment(data=BYTES, filename="pict/ure 1.png", content_type="image/png")
transcript = JSONAttachment({"messages": ["hi"] * 10}, filename="talk.json")
experiment.log(input={"image": picture, "deep": [{"talk": transcript}]}, output=1, scores={}, id="r1")
experiment.flush()
(row,) = braintrust.init(project=P, experiment="files", open=True)
image = row["input"]["image"]
assert image.reference["filename"] == "pict/ure 1.png" and image.status() == {"upload_status": "done"}
assert image.data == BYTES and str(image).startswith("data:image/png;base64,")
assert (
    row["input"]["deep"][0]["talk"].data
    == b'{"messages": ["hi", "hi", "hi", "hi", "hi", "hi", "hi", "hi", "hi", "hi"]}'
)

dataset = init_dataset(project=P, name="pictures")
dataset.insert(id="d1", input={"file": Attachment(data=b"dataset", filename="d.txt", content_type="text/plain")})
dataset.flush()


def task(given):
    return given["file"].data.decode()


result = Eval(P, data=init_dataset(project=P, name="pictures"), task=task, scores=[lambda output: output == "dataset"])
assert [case.output for case in result.results] == ["dataset"], result.results
assert next(iter(result.summary.scores.values())).score == 1

# The eval has the file as its own: it stays when the dataset goes.
experiment.state.api_client().datasets.delete_dataset_id(dataset.id)
evaluated = braintrust.init(project=P, experiment=result.summary.experiment_name, open=True)
kept = [row["input"]["file"].data for row in evaluated if row["span_attributes"]["type"] == "eval"]
assert kept == [b"dataset"], kept
print("OK s08", len(BYTES))

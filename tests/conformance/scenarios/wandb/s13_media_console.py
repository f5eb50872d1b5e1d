"""Tables, Html, histograms, nested values, code, console with a progress line, alerts, files: logged and read back."""

import os
import sys

os.environ["WANDB_CONSOLE"] = "wrap"

from pathlib import Path

from _scratch import ENTITY, SCRATCH, done, uniq, wait_for

# isort: split
import wandb

proj = uniq("s13")
run = wandb.init(project=proj, entity=ENTITY)
print("hello console")
for i in range(3):
    sys.stdout.write(f"\rprogress {i}")
    sys.stdout.flush()
print()
print("to stderr", file=sys.stderr)
table = wandb.Table(columns=["a", "b"], data=[[1, "x"], [2, "y"]])
run.log(
    {
        "tab": table,
        "html": wandb.Html("<b>hi</b>"),
        "hist": wandb.Histogram(np_histogram=([1, 2], [0, 1, 2])),
        "nest": {"a": {"b": 1}},
        "list": [1, 2],
    }
)
run.log({"loss": float("nan"), "text": "a text", "flag": True})
run.alert("Title", "Text", level=wandb.AlertLevel.ERROR)
(SCRATCH / "code.py").write_text("print(1)")
run.log_code(str(SCRATCH))
run.save(str(SCRATCH / "code.py"), base_path=str(SCRATCH))
run.finish()

P = f"{run.entity}/{proj}"
r = wandb.Api().run(f"{P}/{run.id}")
assert r.summary["hist"]["values"] == [1, 2] and r.summary["html"]["_type"] == "html-file"
first, second = r.scan_history()
assert first["list"] == [1, 2] and first["tab"]["_type"] == "table-file" and second["loss"] != second["loss"]
assert r.history(keys=["nest.a.b"], pandas=False) == [{"_step": 0, "nest.a.b": 1}]
assert r.history(stream="events", pandas=False)[0]["system.proc.cpu.threads"] >= 1
assert second["text"] == "a text" and second["flag"] is True
console = wait_for(lambda: list(wandb.Api().run(f"{P}/{run.id}").console_logs()), "console lines")
assert [line.content for line in console] == ["hello console", "progress 2", "to stderr"], console
assert console[2].level == "error" and console[0].timestamp is not None
names = {f.name for f in r.files()}
assert {
    "code.py",
    "config.yaml",
    "wandb-metadata.json",
    "wandb-summary.json",
    "output.log",
    "requirements.txt",
} <= names
assert [f.name for f in r.files(pattern="media/%.json")] == [n for n in sorted(names) if n.startswith("media/table")]
assert r.metadata["program"].endswith("s13_media_console.py")
assert Path(r.file("code.py").download(root=str(SCRATCH / "dl"), replace=True).name).read_text() == "print(1)"
r.file("code.py").delete()
assert "code.py" not in {f.name for f in wandb.Api().run(f"{P}/{run.id}").files()}
r.upload_file(str(SCRATCH / "code.py"), root=str(SCRATCH))
assert "code.py" in {f.name for f in wandb.Api().run(f"{P}/{run.id}").files()}
assert wandb.Api().artifact(f"{P}/run-{run.id}-tab:latest").get("tab").data == [[1, "x"], [2, "y"]]
assert {a.type for a in r.logged_artifacts()} == {"run_table", "code"}
done("s13")

"""Every kind of media: written as the client writes it, listed, the same bytes again, and never run in our origin."""

import hashlib
import json
import urllib.error
import urllib.request
from pathlib import Path

from _scratch import ENTITY, SCRATCH, done, uniq

# isort: split
import numpy as np
import plotly.graph_objects as go
import wandb
from PIL import Image as Pillow

proj = uniq("s40")
rng = np.random.default_rng(7)
pixels = rng.integers(0, 255, (24, 32, 3), dtype=np.uint8)
labels = {0: "sky", 1: "ground"}
(SCRATCH / "drawing.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>')
(SCRATCH / "clip.gif").write_bytes(b"GIF89a" + bytes(range(64)))
(SCRATCH / "page.html").write_text("<h1>page</h1><script>alert(document.domain)</script>")
(SCRATCH / "caffeine.pdb").write_text("HEADER    A MOLECULE\nATOM      1  N   ALA A   1      11.1  6.1  -6.5\nEND\n")
(SCRATCH / "scene.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
(SCRATCH / "picture.png").write_bytes(b"")
Pillow.fromarray(pixels).save(SCRATCH / "picture.png")

run = wandb.init(project=proj, entity=ENTITY)
boxes = {
    "predictions": {
        "box_data": [
            {
                "position": {"minX": 0.1, "maxX": 0.5, "minY": 0.2, "maxY": 0.7},
                "class_id": 1,
                "box_caption": "ground (0.8)",
                "scores": {"acc": 0.8},
            }
        ],
        "class_labels": labels,
    }
}
masks = {"truth": {"mask_data": rng.integers(0, 2, (24, 32), dtype=np.uint8), "class_labels": labels}}
gallery = [wandb.Image(pixels[::-1], caption="one"), wandb.Image(pixels[:, ::-1], caption="two ü")]
table = wandb.Table(columns=["id", "image", "sound", "page", "embedding"])
for number in range(3):
    image = wandb.Image(np.roll(pixels, number, axis=0), caption=f"row {number}")
    sound = wandb.Audio(rng.uniform(-0.5, 0.5, 800), sample_rate=8000, caption=f"sound {number}")
    table.add_data(number, image, sound, wandb.Html(f"<i>{number}</i>", inject=False), rng.normal(size=4))
figure = go.Figure(data=[go.Scatter(x=[1, 2, 3], y=[2, 0, 1])])
points = rng.normal(size=(50, 3))
plain = wandb.Table(columns=["x", "y", "name"], data=[[1.0, 2.0, "a"], [2.0, 3.0, "b"], [3.0, 1.0, "c"]])
logged = {
    "picture": wandb.Image(pixels, caption="boxes and masks", boxes=boxes, masks=masks),
    "group/gallery": gallery,
    "from_file": wandb.Image(str(SCRATCH / "picture.png")),
    "sound": wandb.Audio(rng.uniform(-0.5, 0.5, 1600), sample_rate=8000, caption="noise"),
    "frames": wandb.Video(rng.integers(0, 255, (6, 3, 16, 16), dtype=np.uint8), fps=4, format="gif"),
    "film": wandb.Video(rng.integers(0, 255, (8, 3, 32, 32), dtype=np.uint8), fps=4, format="mp4"),
    "clip": wandb.Video(str(SCRATCH / "clip.gif"), caption="from a file", format="gif"),
    "html": wandb.Html("<b>bold</b><script>alert(1)</script>"),
    "page": wandb.Html(str(SCRATCH / "page.html"), inject=False),
    "figure": figure,
    "figure_object": wandb.Plotly(figure),
    "molecule": wandb.Molecule(str(SCRATCH / "caffeine.pdb"), caption="small"),
    "cloud": wandb.Object3D(points),
    "scene": wandb.Object3D(str(SCRATCH / "scene.obj")),
    "histogram": wandb.Histogram(rng.normal(size=100), num_bins=8),
    "table": table,
    "line": wandb.plot.line(plain, "x", "y", title="a line"),
    "scatter": wandb.plot.scatter(plain, "x", "y", title="points"),
    "bar": wandb.plot.bar(plain, "name", "y", title="bars"),
    "hist": wandb.plot.histogram(plain, "x", title="counts"),
    "series": wandb.plot.line_series([0, 1, 2], [[1, 2, 3], [3, 2, 1]], keys=["up", "down"], title="two"),
    "pr": wandb.plot.pr_curve([0, 1, 1, 0], [[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.7, 0.3]], labels=["no", "yes"]),
    "roc": wandb.plot.roc_curve([0, 1, 1, 0], [[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.7, 0.3]], labels=["no", "yes"]),
    "confusion": wandb.plot.confusion_matrix(y_true=[0, 1, 1, 0], preds=[0, 1, 0, 0], class_names=["no", "yes"]),
}
run.log(logged)
run.save(str(SCRATCH / "drawing.svg"), base_path=str(SCRATCH))
folder = Path(run.dir)
run.finish()

P = f"{run.entity}/{proj}"
api = wandb.Api()
seen = api.run(f"{P}/{run.id}")
[row] = seen.scan_history()
types = {
    "picture": "image-file",
    "group/gallery": "images/separated",
    "from_file": "image-file",
    "sound": "audio-file",
    "frames": "video-file",
    "film": "video-file",
    "clip": "video-file",
    "html": "html-file",
    "page": "html-file",
    "figure": "plotly-file",
    "figure_object": "plotly-file",
    "molecule": "molecule-file",
    "cloud": "object3D-file",
    "scene": "object3D-file",
    "histogram": "histogram",
    "table": "table-file",
}
assert {name: row[name]["_type"] for name in types} == types, {name: row.get(name) for name in types}
assert row["group/gallery"]["captions"] == ["one", "two ü"] and row["group/gallery"]["count"] == 2
assert row["picture"]["caption"] == "boxes and masks" and {"boxes", "masks"} <= row["picture"].keys()
assert sum(row["histogram"]["values"]) == 100 and len(row["histogram"]["bins"]) == 9
assert seen.summary["film"]["path"] == row["film"]["path"]
charts = {"line", "scatter", "bar", "hist", "series", "pr", "roc", "confusion"}
assert {f"{name}_table" for name in charts} <= row.keys(), sorted(row)
internal = (
    json.loads(seen.rawconfig)["_wandb"]["value"] if isinstance(seen.rawconfig, str) else seen.rawconfig["_wandb"]
)
assert charts <= internal["visualize"].keys(), internal.keys()

# --- each file is there with the bytes that were written, and known by its digests
local = {p.relative_to(folder).as_posix(): p.read_bytes() for p in (folder / "media").rglob("*") if p.is_file()}
assert len(local) >= 23, sorted(local)
known = {file.name: file for file in seen.files(per_page=7)}
assert local.keys() <= known.keys(), set(local) - set(known)
for name, content in local.items():
    with known[name].download(root=str(SCRATCH / "got"), replace=True) as handle:
        assert Path(handle.name).read_bytes() == content, name
    assert known[name].size == len(content)
pictures = {f.name for f in seen.files(pattern="media/images/%")}
assert pictures == {name for name in known if name.startswith("media/images/")}
box_files = [name for name in local if name.startswith("media/metadata/boxes2D")]
assert json.loads(local[box_files[0]])["box_data"][0]["scores"] == {"acc": 0.8}, sorted(local)
for name, entry in ((name, row[name]) for name in types):
    if "sha256" in entry:
        assert hashlib.sha256(local[entry["path"]]).hexdigest() == entry["sha256"], name

# --- a table with media in it comes back with its media
got = api.artifact(f"{P}/run-{run.id}-table:latest").get("table")
assert [line[0] for line in got.data] == [0, 1, 2] and len(got.get_column("embedding")) == 3
assert [np.array(line[1].image).tolist() for line in got.data] == [
    np.roll(pixels, number, axis=0).tolist() for number in range(3)
]
assert isinstance(got.data[1][2], wandb.Audio) and isinstance(got.data[2][3], wandb.Html), got.data[1]

# --- whatever a browser is shown, it does not run it
for name in [row["page"]["path"], row["html"]["path"], "drawing.svg", row["figure"]["path"], row["picture"]["path"]]:
    with urllib.request.urlopen(known[name].url, timeout=30) as answer:
        headers = answer.headers
        answer.read()
    assert headers["X-Content-Type-Options"] == "nosniff", (name, headers)
    assert "sandbox" in headers["Content-Security-Policy"] and "allow-" not in headers["Content-Security-Policy"]
    assert "script-src" not in headers["Content-Security-Policy"]
    assert headers["Content-Disposition"].startswith("attachment"), (name, headers)
    assert headers["Access-Control-Allow-Origin"] == "*" and "Set-Cookie" not in headers
swapped = known["drawing.svg"].url.replace("drawing.svg", "config.yaml")
with urllib.request.urlopen(swapped, timeout=30) as answer:
    assert answer.read() == (SCRATCH / "drawing.svg").read_bytes(), "a link for one file opens another"
forged = known["drawing.svg"].url.replace("/storage/", "/storage/x")
try:
    urllib.request.urlopen(forged, timeout=30)
except urllib.error.HTTPError as refused:
    assert refused.code == 401, refused.code
else:
    raise SystemExit("a forged link opens a file")
done("s40", files=len(local))

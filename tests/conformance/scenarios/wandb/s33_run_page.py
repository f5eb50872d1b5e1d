"""The links that the client prints lead to a page of the run, for those who have a key and for nobody else."""

import base64
import os
import urllib.error
import urllib.request

import wandb
from _scratch import done, uniq

BASE, KEY = os.environ["WANDB_BASE_URL"], os.environ["WANDB_API_KEY"]


def get(url, key=None, accept=None):
    headers = {"Authorization": "Basic " + base64.b64encode(f"api:{key}".encode()).decode()} if key else {}
    headers |= {"Accept": accept} if accept else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as response:
            return response.status, response.headers, response.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.headers, refused.read().decode()


secret = "<script>alert('pwned')</script>"
with wandb.init(project=uniq("s33"), name=secret, notes="n & " + secret, config={"a<b": secret}, tags=["x&y"]) as run:
    run.log({"loss": 0.25})
    run.summary["text"] = secret
url = run.url
assert url == f"{BASE}/{run.entity}/{run.project}/runs/{run.id}", url
status, headers, page = get(url, KEY)
assert status == 200 and headers["Content-Type"].startswith("text/html"), (status, headers)
assert "<script" not in page and "&lt;script&gt;" in page
assert "loss" in page and "0.25" in page and "finished" in page and "x&amp;y" in page
assert "default-src 'none'" in headers["Content-Security-Policy"]
assert headers["X-Content-Type-Options"] == "nosniff"
assert wandb.Api().run(f"{run.project}/{run.id}").url == url

for key in (None, "lk-" + "x" * 43):
    status, headers, page = get(url, key)
    assert status == 401 and "pwned" not in page and "loss" not in page, (status, page)
    assert headers["WWW-Authenticate"].startswith("Basic"), headers
    assert "key" in page
    # A program gets JSON, a browser a page that says what to do; nothing in it runs.
    assert headers["Content-Type"] == "application/json", headers
    status, headers, page = get(url, key, accept="text/html,application/xhtml+xml")
    assert status == 401 and headers["Content-Type"].startswith("text/html"), (status, headers)
    assert "API key" in page and "<script" not in page and "pwned" not in page
    assert headers["WWW-Authenticate"].startswith("Basic"), headers
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
status, headers, page = get(f"{BASE}/{run.entity}/{run.project}/runs/%3Cb%3Enone", KEY, accept="text/html")
assert status == 404 and "<b>" not in page and "Not here" in page, page
# Whether there is such a run is nothing to tell either.
assert get(f"{BASE}/{run.entity}/{run.project}/runs/none")[0] == 401
assert get(f"{BASE}/{run.entity}/{run.project}/runs/none", KEY)[0] == 404
assert get(f"{BASE}/elsewhere/{run.project}/runs/{run.id}", KEY)[0] in (401, 403, 404)
done("s33")

"""Where a scenario keeps the state of the client, and what all of them need. Imported before wandb itself."""

import os
import random
import string
import sys
import tempfile
import time
from pathlib import Path

for v in ("WANDB_BASE_URL", "WANDB_API_KEY"):
    if not os.environ.get(v):
        sys.exit(f"{v} must be set")
# keep all client state in a scratch dir (no ~/.netrc, no ~/.config/wandb, private artifact cache)
SCRATCH = Path(tempfile.mkdtemp(prefix="wbscn-"))
for k, d in (
    ("WANDB_DIR", "dir"),
    ("WANDB_CACHE_DIR", "cache"),
    ("WANDB_DATA_DIR", "data"),
    ("WANDB_CONFIG_DIR", "config"),
    ("WANDB_ARTIFACT_DIR", "art"),
):
    p = SCRATCH / d
    p.mkdir(parents=True, exist_ok=True)
    os.environ[k] = str(p)
os.environ.setdefault("WANDB_SILENT", "true")
os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # no sentry/otel
os.environ.setdefault("WANDB_CONSOLE", "off")
os.chdir(SCRATCH)
ENTITY = os.environ.get("WANDB_ENTITY") or None


def uniq(prefix):
    return prefix + "-" + "".join(random.choices(string.ascii_lowercase + string.digits, k=6))


def wait_for(fn, what, timeout=30, every=0.25):
    end = time.time() + timeout
    last = None
    while time.time() < end:
        try:
            last = fn()
            if last:
                return last
        except AssertionError:
            raise
        except Exception as e:
            last = e
        time.sleep(every)
    raise AssertionError(f"timed out waiting for {what}: last={last!r}")


T0 = time.time()


def done(name, **kw):
    print(
        f"PASS {name} " + " ".join(f"{k}={v}" for k, v in kw.items()) + f" total_s={time.time() - T0:.2f}", flush=True
    )

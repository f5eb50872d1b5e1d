"""What `make demo` shows has to be true on every machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_demo_plays_from_the_first_run_to_an_intact_audit_trail() -> None:
    demo = [sys.executable, str(ROOT / "scripts" / "demo.py")]
    done = subprocess.run(demo, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert "purge: done" in done.stdout
    assert done.stdout.splitlines()[-1].endswith("events, chain intact")

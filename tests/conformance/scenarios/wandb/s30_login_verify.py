"""`wandb login --host` writes the key down and proves it; `wandb verify` passes but for its wish for https."""

import os
import subprocess
import sys
from pathlib import Path

from _scratch import SCRATCH, done

WANDB = str(Path(sys.executable).parent / "wandb")
BASE, KEY = os.environ["WANDB_BASE_URL"], os.environ["WANDB_API_KEY"]
home = SCRATCH / "home"
home.mkdir()
bare = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
bare |= {"HOME": str(home), "WANDB_ERROR_REPORTING": "false", "USER": "someone", "LOGNAME": "someone"}


def wandb(*words, timeout=200, **variables):
    """Run the vendor's command in a home of its own: no key but the one that `wandb login` wrote down."""
    ran = subprocess.run(
        [WANDB, *words], env=bare | variables, capture_output=True, text=True, timeout=timeout, cwd=SCRATCH
    )
    return ran.returncode, ran.stdout + ran.stderr


code, said = wandb("login", "--relogin", "--host", BASE, "lk-" + "x" * 43)
assert code != 0, said
print("wrong key:", said.strip().splitlines()[-1][:160])
code, said = wandb("login", "--relogin", "--host", BASE, KEY)
assert code == 0, said
assert KEY in (home / ".netrc").read_text()
code, said = wandb("status")
assert code == 0 and BASE in said, said

code, said = wandb("verify", "--host", BASE)
print(said)
assert code == 0, code
failed = [line for line in said.splitlines() if line.rstrip().endswith("\u274c")]
assert len(failed) == 2 and all("requests" in line for line in failed), failed
done("s30")

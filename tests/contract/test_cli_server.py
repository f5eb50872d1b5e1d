"""The command line against a real server in a process of its own: how it is started, keyed, checked and stopped."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from labkeep import Labkeep
from labkeep.core.connect import SYSTEMS, served
from labkeep.core.connect import environment as environment_of
from tests.conformance.server import LABKEEP, LiveServer, free_port, live_server

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
KEY = re.compile(r"lk-[A-Za-z0-9_-]{43}")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server that the tests of this file share."""
    with live_server(tmp_path_factory.mktemp("server")) as running:
        yield running


def environment(home: Path, **variables: str) -> dict[str, str]:
    """An environment without settings and without a configuration of its own but those of ``home``."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LABKEEP_", "XDG_"))}
    return {**kept, "HOME": str(home), "XDG_CONFIG_HOME": str(home / "config"), **variables}


def labkeep(
    *words: str, env: Mapping[str, str], stdin: str | None = None, timeout_s: float = 60
) -> subprocess.CompletedProcess[str]:
    """Run the installed command."""
    return subprocess.run(
        [LABKEEP, *words],
        env=dict(env),
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def start(*words: str, env: Mapping[str, str]) -> subprocess.Popen[str]:
    """Start the installed command."""
    return subprocess.Popen([LABKEEP, *words], env=dict(env), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def stopped(process: subprocess.Popen[str], number: signal.Signals) -> tuple[int, str, str]:
    """Exit code and output of a process after a signal."""
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    return process.returncode, out, err


# --- the contract that other checks use


def test_a_workspace_is_answered_by_its_id_and_nothing_else(server: LiveServer, tmp_path: Path) -> None:
    env = environment(tmp_path, LABKEEP_URL=server.url, LABKEEP_API_KEY=server.admin_key)
    for words in (("workspace", "create", "one"), ("workspace", "create", "two", "--organization", "elsewhere")):
        done = labkeep(*words, env=env)
        assert (done.returncode, done.stderr) == (0, "")
        assert UUID.fullmatch(done.stdout.rstrip("\n"))


@pytest.mark.parametrize("role", ["viewer", "editor", "maintainer", "owner"])
@pytest.mark.parametrize("agent", [(), ("--agent",)])
def test_a_key_is_answered_by_itself_and_works(
    server: LiveServer, tmp_path: Path, role: str, agent: tuple[str, ...]
) -> None:
    env = environment(tmp_path, LABKEEP_URL=server.url, LABKEEP_API_KEY=server.admin_key)
    done = labkeep("key", "create", "--workspace", "default", "--user", f"u-{role}", "--role", role, *agent, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert KEY.fullmatch(done.stdout.rstrip("\n"))
    with Labkeep(api_key=done.stdout.strip(), base_url=server.url) as client:
        me = client.me()
    assert (me.user, me.role, me.agent, me.workspace) == (f"u-{role}", role, bool(agent), "default")


def test_a_key_for_a_workspace_of_another_organization_sees_only_that(server: LiveServer, tmp_path: Path) -> None:
    env = environment(tmp_path, LABKEEP_URL=server.url, LABKEEP_API_KEY=server.admin_key)
    workspace = labkeep("workspace", "create", "foreign", "--organization", "foreigners", env=env).stdout.strip()
    key = labkeep("key", "create", "--workspace", workspace, "--user", "eve", "--role", "owner", env=env).stdout.strip()
    theirs = labkeep("workspace", "ls", "--json", env={**env, "LABKEEP_API_KEY": key})
    assert [item["name"] for item in json.loads(theirs.stdout)["items"]] == ["foreign"]


def test_health_is_answered_without_a_key(server: LiveServer) -> None:
    with urllib.request.urlopen(f"{server.url}/healthz") as answer:
        assert answer.status == 200


# --- starting and stopping


def test_a_first_start_prints_the_key_once_and_the_next_start_does_not(tmp_path: Path) -> None:
    env = environment(tmp_path)
    words = ("serve", "--data", str(tmp_path / "data"), "--port", "0")
    first = start(*words, env=env)
    assert first.stdout is not None
    head = "".join(first.stdout.readline() for _ in range(4))
    found = re.search(r"export LABKEEP_URL=(\S+) LABKEEP_API_KEY=(\S+)", head)
    assert found, head
    keyed = {**env, "LABKEEP_URL": found[1], "LABKEEP_API_KEY": found[2]}
    assert labkeep("whoami", "--json", env=keyed).returncode == 0
    code, _, err = stopped(first, signal.SIGTERM)
    assert (code, err) == (0, "")
    second = start(*words, "--json", env=env)
    assert second.stdout is not None
    told = json.loads(second.stdout.readline())
    assert told["key"] is None
    assert labkeep("whoami", env={**keyed, "LABKEEP_URL": told["url"]}).returncode == 0
    assert stopped(second, signal.SIGINT)[0] == 0


def test_a_port_that_is_taken_is_said_before_anything_is_made(tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        words = ("serve", "--data", str(tmp_path / "data"), "--port", str(port))
        done = labkeep(*words, env=environment(tmp_path))
    assert done.returncode == 6
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in done.stderr
    assert done.stderr.startswith("Error: ")
    assert not (tmp_path / "data").exists()


def test_a_folder_that_is_in_use_is_refused(server: LiveServer, tmp_path: Path) -> None:
    done = labkeep("serve", "--data", str(server.data), "--port", "0", env=environment(tmp_path))
    assert done.returncode == 6
    assert "in use by another Labkeep process" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("variables", "complaint"),
    [
        ({"LABKEEP_GRACE_DAYS": "soon"}, "grace_days"),
        ({"LABKEEP_EMBEDDED_WORKER": "false"}, "needs PostgreSQL"),
        ({"LABKEEP_BLOBS_OPTIONS": "{not json"}, "settings"),
        ({"LABKEEP_ADMIN_KEY": "short"}, "LABKEEP_ADMIN_KEY must be"),
        ({"LABKEEP_HOST": "not-an-address.invalid"}, "cannot listen on"),
    ],
)
def test_settings_that_cannot_work_are_named(tmp_path: Path, variables: dict[str, str], complaint: str) -> None:
    done = labkeep("serve", "--data", str(tmp_path / "data"), "--port", "0", env=environment(tmp_path, **variables))
    assert done.returncode in (2, 6)
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr


def test_a_settings_file_is_read_and_its_mistakes_are_named(tmp_path: Path) -> None:
    config = tmp_path / "labkeep.toml"
    config.write_text("grace_days = 7\nprot = 9000\n")
    for words in (("serve", "--config", str(config)), ("settings", "--config", str(config))):
        done = labkeep(*words, env=environment(tmp_path))
        assert (done.returncode, "prot" in done.stderr) == (2, True)
    missing = labkeep("serve", "--config", str(tmp_path / "absent.toml"), env=environment(tmp_path))
    assert (missing.returncode, "absent.toml" in missing.stderr) == (2, True)


def test_a_worker_beside_a_sqlite_store_is_told_that_the_server_works(tmp_path: Path) -> None:
    done = labkeep("worker", env=environment(tmp_path))
    assert done.returncode == 2
    assert "`labkeep serve` has a worker of its own" in done.stderr


def test_a_worker_beside_a_server_on_postgresql_does_the_purge(tmp_path: Path, postgres_url: str) -> None:
    settings = {"LABKEEP_DATABASE_URL": postgres_url, "LABKEEP_DATA": str(tmp_path / "data")}
    with live_server(tmp_path, {**settings, "LABKEEP_EMBEDDED_WORKER": "false"}) as running:
        working = start("worker", "--json", env=environment(tmp_path, **settings))
        assert working.stdout is not None
        assert json.loads(working.stdout.readline())["worker"]
        with Labkeep(api_key=running.admin_key, base_url=running.url) as client:
            run = client.runs.create("p", name="r", status="finished")
            client.runs.trash(run.id)
        running.cli("purge", run.id, "--yes")
        code, _, err = stopped(working, signal.SIGTERM)
    assert (code, err) == (0, "")


# --- logging in


def test_a_login_is_kept_for_later_commands_and_only_for_its_owner(server: LiveServer, tmp_path: Path) -> None:
    env = environment(tmp_path)
    assert labkeep("whoami", env=env).returncode == 3
    done = labkeep("login", "--url", server.url, env=env, stdin=f"{server.admin_key}\n")
    assert done.returncode == 0, done.stderr
    file = tmp_path / "config" / "labkeep" / "config.toml"
    assert str(file) in done.stdout
    assert server.admin_key not in done.stdout + done.stderr
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert json.loads(labkeep("whoami", "--json", env=env).stdout)["user"] == "admin"


def test_a_wrong_key_is_not_kept(server: LiveServer, tmp_path: Path) -> None:
    env = environment(tmp_path)
    for key in ("lk-" + "x" * 43, ""):
        done = labkeep("login", "--url", server.url, env=env, stdin=f"{key}\n")
        assert done.returncode == 3
    assert not (tmp_path / "config").exists()


def test_a_login_on_a_terminal_asks_without_showing_the_key(server: LiveServer, tmp_path: Path) -> None:
    with _terminal("login", "--url", server.url, env=environment(tmp_path)) as terminal:
        terminal.wait_for("API key: ")
        terminal.type(f"{server.admin_key}\n")
        shown = terminal.rest()
    assert terminal.code == 0, shown
    assert "Logged in to" in shown
    assert server.admin_key not in shown


def test_no_key_and_no_server_are_one_line_each(tmp_path: Path) -> None:
    env = environment(tmp_path)
    none = labkeep("runs", "ls", env=env)
    assert (none.returncode, len(none.stderr.splitlines())) == (3, 1)
    away = labkeep(
        "runs", "ls", env={**env, "LABKEEP_URL": f"http://127.0.0.1:{free_port()}", "LABKEEP_API_KEY": "lk-x"}
    )
    assert (away.returncode, len(away.stderr.splitlines())) == (6, 1)
    assert "Is the server running" in away.stderr


# --- other systems


def test_connect_prints_lines_that_a_shell_can_evaluate(server: LiveServer, tmp_path: Path) -> None:
    env = environment(tmp_path, LABKEEP_URL=server.url, LABKEEP_API_KEY=server.admin_key)
    script = f'eval "$({LABKEEP} connect braintrust)"; echo "$BRAINTRUST_API_URL $BRAINTRUST_API_KEY"'
    done = subprocess.run(["sh", "-c", script], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [f"{server.url}/braintrust", server.admin_key]
    as_json = json.loads(labkeep("connect", "braintrust", "--json", env=env).stdout)
    assert as_json["BRAINTRUST_API_KEY"] == server.admin_key


def test_connect_is_honest_about_what_is_served(tmp_path: Path) -> None:
    from labkeep.server import DIALECTS, load_dialect

    assert set(served()) == {"labkeep", *DIALECTS}
    for dialect in map(load_dialect, DIALECTS):
        assert dialect.prefix == f"/{dialect.name}"
        ours = environment_of(SYSTEMS[dialect.name], "http://lab:1", "k")
        assert ours == dialect.environment("http://lab:1", "k")
    done = labkeep("connect", "spreadsheet", env=environment(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert f"supported: {', '.join(served())}" in done.stderr


# --- checking


def test_a_check_beside_a_running_server_is_clean(server: LiveServer, tmp_path: Path) -> None:
    with Labkeep(api_key=server.admin_key, base_url=server.url) as client:
        run = client.runs.create("checked", name="r")
        client.runs.append_history(run.id, [{"_step": 0, "loss": 0.5}], offset=0)
        client.files.upload(run.id, "a.bin", b"abc")
    done = labkeep("check", "--data", str(server.data), "--deep", env=environment(tmp_path))
    assert (done.returncode, done.stderr) == (0, "Everything fits together.\n")
    assert "audit" in {line.split("\t")[0] for line in done.stdout.splitlines()}


def test_a_check_that_finds_something_ends_with_7_and_says_what_would_mend_it(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with Labkeep.local(data) as client:
        run = client.runs.create("broken", name="r", status="finished")
        client.files.upload(run.id, "a.bin", b"abc")
    [blob] = [path for path in (data / "blobs").rglob("*") if path.is_file() and path.read_bytes() == b"abc"]
    blob.unlink()
    with sqlite3.connect(data / "labkeep.db") as database:
        database.execute("update items set bytes = 17 where name = 'r'")
    database.close()
    done = labkeep("check", "--data", str(data), env=environment(tmp_path))
    assert done.returncode == 7
    assert "restore it from a backup" in done.stdout
    report = json.loads(labkeep("check", "--data", str(data), "--json", env=environment(tmp_path)).stdout)
    assert {problem["check"] for problem in report["problems"]} == {"blobs", "sizes"}
    assert report["found"] == 2


def test_a_check_of_nothing_says_so(tmp_path: Path) -> None:
    for folder in (tmp_path / "absent", tmp_path):
        done = labkeep("check", "--data", str(folder), env=environment(tmp_path))
        assert done.returncode != 0
        assert str(folder) in done.stderr
        assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


# --- on a terminal, and in a pipe


class _Terminal:
    """A command on a pseudo-terminal."""

    def __init__(self, words: tuple[str, ...], env: Mapping[str, str]) -> None:
        self.code: int | None = None
        self._seen = ""
        self._pid, self._end = pty.fork()
        if self._pid == 0:
            os.execve(LABKEEP, [LABKEEP, *words], {**env, "TERM": "xterm", "COLUMNS": "100"})

    def __enter__(self) -> _Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._end)
        if self.code is None:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)

    def _read(self) -> bool:
        try:
            piece = os.read(self._end, 65_536)
        except OSError:  # how Linux says that the other end was closed
            return False
        self._seen += piece.decode(errors="replace")
        return bool(piece)

    def wait_for(self, text: str) -> None:
        """Read until ``text`` was printed."""
        while text not in self._seen:
            assert self._read(), self._seen

    def type(self, text: str) -> None:
        """Type something."""
        os.write(self._end, text.encode())

    def rest(self) -> str:
        """Everything that was printed, once the command has ended."""
        while self._read():
            pass
        self.code = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        return self._seen


def _terminal(*words: str, env: Mapping[str, str]) -> _Terminal:
    return _Terminal(words, env)


def test_a_terminal_is_asked_and_gets_tables_and_a_progress_bar(server: LiveServer, tmp_path: Path) -> None:
    env = environment(tmp_path, LABKEEP_URL=server.url, LABKEEP_API_KEY=server.admin_key)
    with Labkeep(api_key=server.admin_key, base_url=server.url) as client:
        run = client.runs.create("terminal", name="on-screen", status="finished")
    with _terminal("runs", "ls", "-p", "terminal", env=env) as terminal:
        table = terminal.rest()
    assert "\x1b[1mNAME" in table
    assert "DURATION" in table
    assert run.id in table
    with _terminal("trash", run.id, env=env) as terminal:
        terminal.wait_for("Trash it? [y/N]: ")
        terminal.type("y\n")
        assert "undo: labkeep restore --deletion" in terminal.rest()
    with _terminal("purge", run.id, env=env) as terminal:
        terminal.wait_for("Purge it? [y/N]: ")
        terminal.type("y\n")
        assert "nothing left)" in terminal.rest()
    assert terminal.code == 0


def test_a_reader_that_has_seen_enough_ends_a_list_quietly(server: LiveServer, tmp_path: Path) -> None:
    env = environment(tmp_path, LABKEEP_URL=server.url, LABKEEP_API_KEY=server.admin_key)
    with Labkeep(api_key=server.admin_key, base_url=server.url) as client:
        client.runs.create_many([{"name": f"run {number} {'x' * 300}"} for number in range(2000)], project="long")
    script = f"{LABKEEP} runs ls -p long --all | head -n 1"
    done = subprocess.run(["sh", "-c", script], env=env, capture_output=True, text=True, timeout=60, check=True)
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == ""


def test_help_is_there_at_once(tmp_path: Path) -> None:
    code = (
        "import sys, labkeep.cli.main as m, click; ctx = click.Context(m.main, info_name='labkeep'); m.main.get_help(ctx);"
        "print(sorted(n for n in ('msgspec', 'rich', 'sqlalchemy', 'starlette', 'labkeep.client._sync.client')"
        " if n in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout == "[]\n"
    times = []
    for _ in range(5):
        began = time.perf_counter()
        assert labkeep("--help", env=environment(tmp_path)).returncode == 0
        times.append(time.perf_counter() - began)
    assert min(times) < 1.0, "far from the 0.15 s that it takes on an idle machine"


BASE_INSTALL = """
import sys

class OnlyTheBaseInstall:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {
            "starlette", "uvicorn", "sqlalchemy", "alembic", "numpy", "pyarrow", "zstandard", "cryptography", "jinja2",
            "prometheus_client", "uvloop", "httptools", "psycopg", "obstore",
        }:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, OnlyTheBaseInstall())
from labkeep.cli.main import main
main(prog_name="labkeep")
"""


@pytest.mark.parametrize(
    "words",
    [
        ("runs", "ls", "--all"),
        ("projects", "ls", "--json"),
        ("key", "create", "--user", "base"),
        ("connect", "braintrust"),
        ("settings",),
        ("du",),
        ("audit", "verify"),
    ],
)
def test_the_base_install_is_enough_for_whatever_talks_to_a_server(
    server: LiveServer, tmp_path: Path, words: tuple[str, ...]
) -> None:
    env = environment(tmp_path, LABKEEP_URL=server.url, LABKEEP_API_KEY=server.admin_key)
    done = subprocess.run(
        [sys.executable, "-c", BASE_INSTALL, *words], env=env, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("words", [("serve",), ("check", "--data", "."), ("--dir", "runs", "projects", "ls")])
def test_the_base_install_says_what_a_server_needs(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BASE_INSTALL, *words],
        env=environment(tmp_path),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 6
    assert "pip install 'labkeep[server]'" in done.stderr
    assert "Traceback" not in done.stderr


# --- what was kept on disk


def test_sync_sends_what_was_kept_on_disk(server: LiveServer, tmp_path: Path) -> None:
    env = environment(tmp_path, LABKEEP_SPOOL=str(tmp_path / "spool"), LABKEEP_API_KEY=server.admin_key)
    empty = labkeep("sync", env={**env, "LABKEEP_URL": server.url})
    assert (empty.returncode, empty.stderr) == (0, "Nothing was kept on disk.\n")
    script = (
        "import labkeep\n"
        "run = labkeep.init(project='synced', name='offline', mode='offline')\n"
        "for step in range(10): run.log({'loss': 1 / (step + 1)})\n"
        "run.finish()\n"
    )
    subprocess.run([sys.executable, "-c", script], env={**env, "LABKEEP_URL": server.url}, cwd=tmp_path, check=True)
    done = labkeep("sync", "--json", env={**env, "LABKEEP_URL": server.url})
    assert done.returncode == 0, done.stderr
    assert {item["outcome"] for item in json.loads(done.stdout)["items"]} == {"sent"}
    with Labkeep(api_key=server.admin_key, base_url=server.url) as client:
        [run] = client.runs.list("synced")
        assert len(client.runs.history(run.id)) == 10

"""The W&B dialect under the real client: ``python tests/bench/wandb_numbers.py [section …]``. Prints; asserts nothing.

Sections: ``ingest`` (server CPU for 100,000 logged steps), ``scan`` (those steps read back), ``many`` (50 runs at once),
``runs`` (first page of 10,000), ``graphql`` (a cached document), ``replay`` (recorded posts of the file stream). What the
client sends is recorded by a proxy before the server, and sent again without the client to time the server alone.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from labkeep import Labkeep
from tests.conformance.run import prepare
from tests.conformance.server import LABKEEP, free_port

KEY = "lk-" + "b" * 43
AUTHORIZATION = "Basic " + base64.b64encode(f"api:{KEY}".encode()).decode()
STEPS = 100_000
COPIES = 48

LOG = """
import sys, wandb
run = wandb.init(project="bench", id=sys.argv[2])
for step in range(int(sys.argv[1])):
    run.log({"loss": 1 / (step + 1), "acc": step / 1e5, "lr": 0.1 / (1 + step // 1000)})
run.finish()
"""

SCAN = """
import sys, wandb
run = wandb.Api().run("bench/long")
assert sum(1 for _ in run.scan_history(page_size=int(sys.argv[1]))) == int(sys.argv[2])
"""

MANY = """
import sys, wandb
runs = [wandb.init(project="many", id=f"r{sys.argv[1]}-{n}", reinit="create_new") for n in range(int(sys.argv[2]))]
for step in range(200):
    for run in runs:
        run.log({"x": step, "y": step / 2})
for run in runs:
    run.finish()
"""

PAGE = """
import sys, wandb
assert len(wandb.Api().runs("crowd", lazy=sys.argv[1] == "lazy", per_page=50, order=sys.argv[2])[0:50]) == 50
"""

DRIP = """
import time, wandb
run = wandb.init(project="drip", id="one", settings=wandb.Settings(x_file_stream_transmit_interval=1))
for step in range(1200):
    run.log({"loss": 1 / (step + 1), "acc": step / 1e5, "lr": 0.1})
    time.sleep(0.01)
run.finish()
"""


# --- the server, and the client before it -----------------------------------------------------------------------------


@dataclass
class Bench:
    """A running server. ``seen`` is what passed through the proxy: method, path and body."""

    url: str
    pid: int
    proxy: str = ""
    seen: list[tuple[str, str, bytes]] = field(default_factory=list)

    def cpu_s(self) -> float:
        """CPU time that the server has used so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def client(self, code: str, *arguments: object, through: str = "") -> None:
        """Run a script with the real client until it ends."""
        with tempfile.TemporaryDirectory(prefix="labkeep-bench-") as home:
            environment = {
                "PATH": os.environ["PATH"],
                "HOME": home,
                "WANDB_BASE_URL": f"{through or self.url}/wandb",
                "WANDB_API_KEY": KEY,
                "WANDB_ERROR_REPORTING": "false",
                "WANDB_CONSOLE": "off",
                "WANDB_SILENT": "true",
            }
            command = [str(prepare("wandb")), "-c", code, *map(str, arguments)]
            subprocess.run(command, env=environment, cwd=home, check=True)

    def record(self, code: str, *arguments: object) -> list[tuple[str, str, bytes]]:
        """What the client sends while it runs a script."""
        self.seen.clear()
        self.client(code, *arguments, through=self.proxy)
        return list(self.seen)

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=60)


def send(connection: http.client.HTTPConnection, path: str, body: bytes) -> bytes:
    """One POST on a connection that is kept open; the body of the answer, which has to be 200."""
    connection.request("POST", path, body, {"Authorization": AUTHORIZATION, "Content-Type": "application/json"})
    response = connection.getresponse()
    answer = response.read()
    if response.status != 200:
        raise SystemExit(f"{path}: {response.status} {answer[:300]!r}")
    return answer


@contextmanager
def serving(folder: Path) -> Iterator[Bench]:
    url = f"http://127.0.0.1:{free_port()}"
    command = [LABKEEP, "serve", "--data", str(folder), "--port", url.rpartition(":")[2], "--json"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "LABKEEP_ADMIN_KEY": KEY}
    environment |= {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    bench = Bench(url, process.pid)
    proxy = ThreadingHTTPServer(("127.0.0.1", 0), _recorder(bench))
    bench.proxy = f"http://127.0.0.1:{proxy.server_port}"
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    try:
        yield bench
    finally:
        proxy.shutdown()
        process.terminate()
        process.wait(30)


def _recorder(bench: Bench) -> type[BaseHTTPRequestHandler]:
    target = urlsplit(bench.url)

    class Recorder(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            bench.seen.append((self.command, self.path, body))
            connection = http.client.HTTPConnection(target.netloc, timeout=60)
            connection.request(self.command, self.path, body, dict(self.headers))  # Host too: links lead back here
            response = connection.getresponse()
            content = response.read()
            self.send_response(response.status)
            for name, value in response.getheaders():
                if name.lower() not in ("content-length", "transfer-encoding", "date", "server"):
                    self.send_header(name, value)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            connection.close()

        def do_GET(self) -> None:
            self.answer()

        def do_POST(self) -> None:
            self.answer()

        def do_PUT(self) -> None:
            self.answer()

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Recorder


def documents(recorded: list[tuple[str, str, bytes]], word: str) -> list[bytes]:
    """Bodies of the recorded GraphQL requests whose document has ``word`` in it."""
    return [body for _, path, body in recorded if path.endswith("/graphql") and word in json.loads(body)["query"]]


def milliseconds(bench: Bench, body: bytes, times: int = 30) -> tuple[float, float]:
    """Median wall time and mean server CPU of one GraphQL request, sent again and again by one client."""
    connection, walls = bench.connect(), []
    send(connection, "/wandb/graphql", body)
    before = bench.cpu_s()
    for _ in range(times):
        started = time.perf_counter()
        send(connection, "/wandb/graphql", body)
        walls.append(time.perf_counter() - started)
    return 1000 * statistics.median(walls), 1000 * (bench.cpu_s() - before) / times


def say(what: str, value: str, goal: str = "") -> None:
    print(f"{what:<62} {value:>22}   {goal}", flush=True)


# --- the sections -----------------------------------------------------------------------------------------------------


def ingest(bench: Bench) -> None:
    before, started = bench.cpu_s(), time.perf_counter()
    bench.client(LOG, STEPS, "long")
    wall, logged = time.perf_counter() - started, bench.cpu_s() - before
    time.sleep(5)
    say("server CPU for 100,000 steps of 3 metrics", f"{logged:.2f} s", "goal 1.5 s")
    say("  the same with sealing to Parquet", f"{bench.cpu_s() - before:.2f} s")
    say("  the client's wall time", f"{wall:.1f} s")


def scan(bench: Bench) -> None:
    started, before = time.perf_counter(), bench.cpu_s()
    bench.client(SCAN, 1000, STEPS)
    busy = bench.cpu_s() - before
    say("scan_history of the ended run, as files: server CPU", f"{busy:.2f} s")
    say("  the client's wall time", f"{time.perf_counter() - started:.1f} s")
    announced = documents(bench.record(LOG, 1, "other"), "UpsertBucket")[0]
    send(bench.connect(), "/wandb/graphql", announced.replace(b'"other"', b'"long"'))  # it runs again: no files
    for size in (1000, 10_000):
        recorded = bench.record(SCAN, size, STEPS)
        pages = documents(recorded, "HistoryPage")
        connection, started, before = bench.connect(), time.perf_counter(), bench.cpu_s()
        for body in pages:
            send(connection, "/wandb/graphql", body)
        wall, busy = time.perf_counter() - started, bench.cpu_s() - before
        say(f"scan_history, {len(pages)} pages of {size}: rows served a second", f"{STEPS / wall:,.0f}", "goal 200,000")
        say("  rows a second of server CPU", f"{STEPS / max(busy, 0.01):,.0f}")


def many(bench: Bench) -> None:
    started, before = time.perf_counter(), bench.cpu_s()
    with ThreadPoolExecutor(5) as pool:
        for _ in pool.map(lambda process: bench.client(MANY, process, 10), range(5)):
            pass
    wall, busy = time.perf_counter() - started, bench.cpu_s() - before
    with Labkeep(KEY, bench.url) as client:
        runs = list(client.runs.list("many"))
        rows = sum([row["x"] for row in client.runs.history(run.id)] == [*range(200)] for run in runs)
    finished = sum(run.status == "finished" for run in runs)
    say("50 runs at once in 5 processes: whole / finished / there", f"{rows} / {finished} / {len(runs)}", "goal 50")
    say("  wall time, server CPU", f"{wall:.1f} s, {busy:.2f} s")


def runs(bench: Bench) -> None:
    with Labkeep(KEY, bench.url) as client:
        for start in range(0, 10_000, 500):
            numbers = range(start, start + 500)
            batch = [
                {"name": f"run {n}", "handle": f"h{n}", "config": _config(n), "summary": {"acc": n}} for n in numbers
            ]
            client.runs.create_many(batch, project="crowd")
    for fragment in ("lazy", "full"):
        for order in ("+created_at", "-created_at", "-summary_metrics.acc"):
            (body, *_) = documents(bench.record(PAGE, fragment, order), "runs(")
            wall, busy = milliseconds(bench, body)
            say(f"first page over 10,000 runs, {fragment}, {order}", f"{wall:.1f} ms, CPU {busy:.1f} ms", "goal 50 ms")


def _config(number: int) -> Mapping[str, object]:
    return {"lr": number / 1e4, "model": {"layers": number % 12, "name": f"m{number % 7}"}, "seed": number}


def graphql(bench: Bench) -> None:
    from labkeep.dialects.wandb.engine import ENGINE

    text = "query ServerFeatures { serverInfo { features { name isEnabled } } }"
    started = time.perf_counter()
    for _ in range(1000):
        ENGINE.run(ENGINE.document(text), {}, None, None)
    say("a cached document without a query behind it", f"{time.perf_counter() - started:.3f} ms", "goal 1 ms")
    recorded = bench.record(LOG, 10, "short")
    for word in ("UpsertBucket", "Viewer", "CreateRunFiles"):
        for body in documents(recorded, word)[:1]:
            wall, busy = milliseconds(bench, body, 200)
            say(f"  {word} over HTTP", f"{wall:.2f} ms, CPU {busy:.2f} ms")


def replay(bench: Bench) -> None:
    recorded = bench.record(DRIP)
    (announced, *_) = documents(recorded, "UpsertBucket")
    posts = [(path, body) for _, path, body in recorded if path.endswith("/file_stream")]

    def one(number: int) -> None:
        connection, handle = bench.connect(), f"copy{number}"
        send(connection, "/wandb/graphql", announced.replace(b'"one"', json.dumps(handle).encode()))
        for path, body in posts:
            send(connection, path.replace("/one/", f"/{handle}/"), body)

    started, before = time.perf_counter(), bench.cpu_s()
    with ThreadPoolExecutor(8) as pool:
        for _ in pool.map(one, range(COPIES)):
            pass
    wall, busy = time.perf_counter() - started, bench.cpu_s() - before
    count = COPIES * len(posts)
    say(f"{count} recorded posts of the file stream again: a second", f"{count / wall:,.0f}", "goal 300")
    say("  server CPU a post", f"{1000 * busy / count:.2f} ms")


SECTIONS: dict[str, Callable[[Bench], None]] = {
    "graphql": graphql,
    "replay": replay,
    "ingest": ingest,
    "scan": scan,
    "runs": runs,
    "many": many,
}


def main() -> None:
    """Run the named sections, or all of them; ``scan`` needs ``ingest`` before it."""
    chosen = sys.argv[1:] or list(SECTIONS)
    with tempfile.TemporaryDirectory(prefix="labkeep-bench-") as folder, serving(Path(folder) / "data") as bench:
        for name in chosen:
            SECTIONS[name](bench)


if __name__ == "__main__":
    main()

"""Labkeep over HTTP, by its own SDK: an adapter for a harness that compares experiment stores side by side."""

import os
import secrets
import time

from bench.base import System

KEY = "lk-" + secrets.token_urlsafe(32)
QUERY = 'config.lr = "0.1" and summary.acc > 0.9'
ORDER = "summary.acc desc"


class Adapter(System):
    name = "labkeep server (sqlite)"
    venv = "labkeep"
    import_stmt = "import labkeep; labkeep.Labkeep"
    notes = (
        "`labkeep serve`, one process, SQLite (WAL, synchronous=FULL: an answer means it is on disk), sync SDK over HTTP; "
        "bulk = runs.log_columns, plain = run.log (queued; the clock stops after finish()), runs by runs.create_many, "
        "purge = a purge job, waited for, with its own verification."
    )

    def server_cmd(self):
        command = [
            self.bin("labkeep"),
            "serve",
            "--data",
            os.path.join(self.datadir, "store"),
            "--port",
            str(self.port),
        ]
        return command, {"LABKEEP_ADMIN_KEY": KEY}, "/healthz"

    def open(self):
        self.start_server()
        os.environ["LABKEEP_URL"] = f"http://127.0.0.1:{self.port}"
        os.environ["LABKEEP_API_KEY"] = KEY
        os.environ["LABKEEP_SPOOL"] = os.path.join(self.datadir, "spool")
        os.environ["LABKEEP_QUIET"] = "1"
        import labkeep

        self.labkeep = labkeep
        self.c = labkeep.Labkeep(api_key=KEY, base_url=os.environ["LABKEEP_URL"])
        self.settle()

    def close(self):
        if getattr(self, "c", None):
            self.c.close()
            self.c = None
        super().close()

    def _log(self, run_id, series):
        self.c.runs.log_columns(run_id, series.steps, series.columns, timestamps=[ms / 1000 for ms in series.ts_ms])

    def ingest(self, name, series):
        run = self.c.runs.create("bench", name=name)
        self._log(run.id, series)
        self.c.runs.finish(run.id)
        return run.id

    def ingest_plain(self, name, series):
        columns = list(series.columns.items())
        self.plain_latencies = []
        with self.labkeep.init(project="bench", name=name) as run:
            for i in range(len(series)):
                start = time.perf_counter()
                run.log({key: column[i] for key, column in columns}, step=i)
                self.plain_latencies.append(time.perf_counter() - start)
        return run.id

    def create_runs(self, specs):
        runs = [
            {
                "name": s.name,
                "status": "finished",
                "config": s.params,
                "summary": s.metrics,
                "tags": [f"{key}:{value}" for key, value in s.tags.items()],
            }
            for s in specs
        ]
        return [run.id for run in self.c.runs.create_many(runs, project="bench")]

    def query(self, limit=100):
        return [run.name for run in self.c.runs.list("bench", q=QUERY, order=ORDER, limit=limit).first_page().items]

    def history(self, handle, metric):
        return self.c.runs.series(handle, metric)

    def trash(self, handles):
        self.c.apply("trash", ids=handles)

    def restore(self, handles):
        self.c.apply("restore", ids=handles)

    def create_heavy(self, spec, series, artifact_path):
        run_id = self.create_runs([spec])[0]
        self._log(run_id, series)
        with open(artifact_path, "rb") as file:
            self.c.files.upload(run_id, os.path.basename(artifact_path), file.read())
        return run_id

    def before_purge(self, handles):
        self.deletion = self.c.apply("trash", ids=handles).deletion_id

    def purge(self, handles):
        self.c.jobs.wait(self.c.deletions.purge(self.deletion).job_id, every_s=0.02)

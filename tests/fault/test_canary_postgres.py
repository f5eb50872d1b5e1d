"""The canary test on PostgreSQL and an object store: after a purge no column of any table has a word of it, no object of
the store, and no byte of the disk under the store.

Not that no byte of the server's files has one: PostgreSQL does not overwrite dead rows, and a receipt does not claim it.
"""

from __future__ import annotations

import json
from pathlib import Path

from sqlalchemy import create_engine, text

from tests.contract.swift_server import SwiftServer
from tests.fault.content_columns import content_columns
from tests.fault.processes import Site, find, unpacked, wait_for_jobs
from tests.fault.test_canary import Planter


def words_in_columns(url: str, words: list[str]) -> set[str]:
    """The words that some column of some table holds, as they are or compressed."""
    needles = {word: word.encode() for word in words}
    found: set[str] = set()
    engine = create_engine(url)
    with engine.connect() as connection:
        for table, _, column in (name.partition(".") for name in content_columns()):
            for (value,) in connection.execute(text(f'SELECT "{column}" FROM "{table}" WHERE "{column}" IS NOT NULL')):
                data = value.encode() if isinstance(value, str) else bytes(value)
                parts = unpacked(data)
                found |= {word for word, needle in needles.items() if any(needle in part for part in parts)}
    engine.dispose()
    return found


def test_no_column_and_no_object_has_a_word_of_a_purged_project(postgres_url: str, tmp_path: Path) -> None:
    with SwiftServer(tmp_path / "swift") as swift:
        swift.create_bucket("blobs")
        stores = {
            "LABKEEP_DATABASE_URL": postgres_url,
            "LABKEEP_BLOBS_URL": "s3://blobs/here",
            "LABKEEP_BLOBS_OPTIONS": json.dumps(swift.options()),
        }
        _plant_and_purge(Site(tmp_path / "site", LABKEEP_SEAL_MIN_ROWS="5", **stores), postgres_url, tmp_path)


def _plant_and_purge(site: Site, postgres_url: str, folder: Path) -> None:
    with site.running() as server, server.client() as client:
        planter = Planter(client, "")
        project = client.projects.create(planter.word("project-name"), **planter.common("project"))
        planter.project = project.id
        planter.everything()
        stored = find(folder / "swift", planter.words)
        assert stored
        assert set(planter.words) - words_in_columns(postgres_url, planter.words) - set(stored) == set()
        outcome = client.projects.trash(project.id, force=True)
        client.projects.purge(project.id)
        wait_for_jobs(client)
        assert words_in_columns(postgres_url, planter.words + planter.overwritten) == set()
        assert find(folder, planter.words + planter.overwritten) == {}
        body = client.receipts.of_deletion(str(outcome.deletion_id)).body
        assert body["method"]["database"] == "logical deletion, VACUUM"
        assert client.audit.verify().intact

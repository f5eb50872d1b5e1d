"""Dialects at the root of a port, or of a host name, of their own: a real server, and the addresses in its answers."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from labkeep.core.errors import Invalid, Unavailable
from labkeep.http.listeners import bind, parse_address
from labkeep.server import check_settings
from labkeep.settings import Settings, load
from tests.conformance.server import LiveServer, free_port, live_server
from tests.contract.test_cli_server import environment, labkeep

HOST = "wandb.lab.example"
UPLOAD = """mutation($p: String!, $r: String!, $f: [String!]!) {
  upsertBucket(input: {name: $r, modelName: $p, host: "h"}) { inserted }
  createRunFiles(input: {entityName: "default", projectName: $p, runName: $r, files: $f}) { files { uploadUrl } }
}"""


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, port: int) -> Iterator[LiveServer]:
    settings = {
        "LABKEEP_LISTEN": json.dumps({"wandb": port}),
        "LABKEEP_HOSTS": json.dumps({HOST: "wandb"}),
        "LABKEEP_TRUST_FORWARDED": "true",
        "LABKEEP_PUBLIC_URL": "https://lab.example",
    }
    with live_server(tmp_path_factory.mktemp("doors"), settings) as running:
        yield running


def upload_url(url: str, key: str, headers: Mapping[str, str] | None = None) -> str:
    """Where the server says that a file of a run is to be put, when it is asked at ``url``."""
    said = base64.b64encode(f"api:{key}".encode()).decode()
    body = {"query": UPLOAD, "variables": {"p": "doors", "r": "r1", "f": ["a.txt"]}}
    sent = {"Authorization": f"Basic {said}", "Content-Type": "application/json", **(headers or {})}
    request = urllib.request.Request(f"{url}/graphql", json.dumps(body).encode(), sent)
    with urllib.request.urlopen(request, timeout=30) as response:
        answer: dict[str, Any] = json.load(response)
    found = answer["data"]["createRunFiles"]["files"][0]["uploadUrl"]
    assert isinstance(found, str)
    return found


def test_links_lead_to_the_door_that_the_client_came_in_by(server: LiveServer, port: int) -> None:
    own, key = f"http://127.0.0.1:{port}", server.admin_key
    assert upload_url(own, key).startswith(f"{own}/storage/")
    assert upload_url(server.url, key, {"Host": HOST}).startswith(f"http://{HOST}/storage/")
    assert upload_url(server.url, key, {"Host": f"{HOST.upper()}:8443"}).startswith(f"http://{HOST.upper()}:8443/sto")
    proxied = {"X-Forwarded-Host": HOST, "X-Forwarded-Proto": "https", "X-Forwarded-Prefix": "/w"}
    assert upload_url(server.url, key, proxied).startswith(f"https://{HOST}/w/storage/")
    assert upload_url(f"{server.url}/wandb", key).startswith("https://lab.example/wandb/storage/")


def test_an_uploaded_file_is_there_by_every_door(server: LiveServer, port: int) -> None:
    own = f"http://127.0.0.1:{port}"
    put = urllib.request.Request(upload_url(own, server.admin_key), b"hello", method="PUT")
    with urllib.request.urlopen(put, timeout=30) as response:
        assert response.status == 200
    runs = json.loads(server.get("/api/v1/runs?limit=10"))["items"]
    (run,) = [each for each in runs if each["handle"] == "r1"]
    assert server.get(f"/api/v1/files/{run['id']}/content?path=a.txt") == b"hello"


@pytest.mark.parametrize("path", ["/api/v1/me", "/docs", "/healthz", "/wandb/graphql", "/braintrust/ping"])
def test_a_door_leads_to_its_dialect_and_nowhere_else(server: LiveServer, port: int, path: str) -> None:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", headers={"Authorization": f"Bearer {server.admin_key}"}
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=30)
    assert refused.value.code == 404
    refused.value.close()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--listen", "8081"), "is not DIALECT=PORT"),
        (("--listen", "wandb=1", "--listen", "wandb=2"), "named twice"),
        (("--listen", "unheard=8081"), "there is no dialect 'unheard'"),
        (("--listen", "wandb=http"), "neither a port nor host:port"),
        (("--port", "8123", "--listen", "wandb=8123"), "port 8123 is named twice"),
    ],
)
def test_a_door_that_cannot_be_is_refused_before_anything_is_made(
    tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    done = labkeep("serve", "--data", str(tmp_path / "data"), *words, env=environment(tmp_path))
    assert done.returncode != 0
    assert said in done.stderr
    assert not (tmp_path / "data").exists()


def test_doors_come_from_the_settings_file_too(tmp_path: Path) -> None:
    file = tmp_path / "labkeep.toml"
    file.write_text('[listen]\nwandb = 8081\nbraintrust = "0.0.0.0:8082"\n[hosts]\n"w.example" = "wandb"\n')
    found = load(file, {})
    assert (found.listen, found.hosts) == ({"wandb": 8081, "braintrust": "0.0.0.0:8082"}, {"w.example": "wandb"})
    check_settings(found)
    with pytest.raises(Invalid, match="hosts: there is no dialect 'unheard'"):
        check_settings(Settings(hosts={"w.example": "unheard"}))


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("8081", ("127.0.0.1", 8081)),
        ("0.0.0.0:0", ("0.0.0.0", 0)),
        ("[::1]:80", ("::1", 80)),
        (":80", ("127.0.0.1", 80)),
    ],
)
def test_an_address_is_a_port_or_host_and_port(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text, "127.0.0.1", "listen.wandb") == address


@pytest.mark.parametrize("text", ["", "host", "host:", "65536", "host:-1", "1.5", "٣"])
def test_what_is_no_address_is_refused_by_the_setting_s_name(text: str) -> None:
    with pytest.raises(Invalid, match=r"listen\.wandb"):
        parse_address(text, "127.0.0.1", "listen.wandb")


def test_a_port_that_is_taken_is_said_to_be() -> None:
    with bind("127.0.0.1", 0, "") as first, pytest.raises(Unavailable, match="another port"):
        bind("127.0.0.1", first.getsockname()[1], "--listen wandb=PORT chooses another port")

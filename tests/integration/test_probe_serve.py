"""`ragops probe serve` as a real process."""

from __future__ import annotations

import json
import signal
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import Spawn, wait_for
from probe_factory import QUERY, TEXTS, address_of, fill, heard_before_listening

from ragops.embedder.client import Embedder, EmbedderConfig
from ragops.probe.app import COMPARE_PATH

# Of this test alone, valid for a hundred years.
CERTIFICATE = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg4Y271G/UC7C9+kp7
7LlHdS9alZOVBlc8CZHKmj6vOdahRANCAAQLvwMGaG/f7GazbfE6Ep6cml3Cos5f
gs+j4cb1TEtxt3QNRCxXeWVGmLZyhKsRx2TXvWFH/im06W395IylW1lm
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBgDCCASWgAwIBAgIUeDs/ReTUVJTYqIzQSoXAqPYCJjQwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyNzA0MDA0OVoYDzIxMjYxMTAz
MDQwMDQ5WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAAQLvwMGaG/f7GazbfE6Ep6cml3Cos5fgs+j4cb1TEtxt3QNRCxXeWVG
mLZyhKsRx2TXvWFH/im06W395IylW1lmo1MwUTAdBgNVHQ4EFgQUAVpii3GzGeHm
zrUXibBQM9tq0AcwHwYDVR0jBBgwFoAUAVpii3GzGeHmzrUXibBQM9tq0AcwDwYD
VR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNJADBGAiEAoR8ADVTOTWkvWlh41QAL
p0gAH79EbRWhG8e8gjtOvVICIQD+mzKocs2p4jSFIg2AW5EbpoJbkP7yJJ7qR1cp
dwRuug==
-----END CERTIFICATE-----
"""


@pytest.fixture
def stored(dsn18: str, tiny_model: Path) -> str:
    """A database with five documents."""
    with Embedder(EmbedderConfig(tiny_model)) as embedder:
        return fill(dsn18, embedder)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_program_serves_until_a_signal(
    stored: str, spawn: Spawn, tiny_model: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    log = tmp_path / "probe.log"
    variables = {"RAGOPS_DSN": stored, "PROBE_TOKEN": "a-token"}
    options = ["--port", "0", "--model", str(tiny_model), "--token-env", "PROBE_TOKEN"]
    options += ["--log-file", str(log), "--log-format", "json"]
    process = spawn("probe", "serve", *options, **variables)
    address = address_of(process)
    assert address.endswith(COMPARE_PATH)
    with httpx.Client(trust_env=False, timeout=60) as client:
        assert client.get(address, params={"query": QUERY}).status_code == 401
        answer = client.get(address, params={"query": QUERY}, headers={"Authorization": "Bearer a-token"})
    assert answer.status_code == 200
    assert answer.json()["comparison_stats"]["total_docs"] == len(TEXTS)
    process.send_signal(number)
    wait_for(lambda: process.poll() is not None, timeout_s=30, what="the end of the probe")
    out, err = process.communicate()
    assert (process.returncode, out) == (code, "")
    assert "Traceback" not in err and "a-token" not in err
    # Uvicorn configures logging, too: the log must not end where the server starts.
    last = json.loads(log.read_text(encoding="utf-8").splitlines()[-1])
    assert (last["event"], last["fields"]["exit_code"]) == ("command_end", code)


@pytest.mark.parametrize(
    ("options", "variables", "said"),
    [
        (["--host", "0.0.0.0"], {}, "every machine that reaches this one"),
        (["--host", "backend.example"], {}, "every machine that reaches this one"),
        (["--token-env", "PROBE_TOKEN"], {}, "PROBE_TOKEN is not set, or empty"),
        (["--token-env", "PROBE_TOKEN", "--host", "::"], {"PROBE_TOKEN": " "}, "PROBE_TOKEN is not set, or empty"),
        (["--port", "70000"], {}, "--port"),
        (["--tls-cert", "c.pem"], {}, "--tls-cert and --tls-key go together"),
        (["--tls-cert", "c.pem", "--tls-key", "k.pem"], {}, "the probe's certificate cannot be used"),
    ],
)
def test_a_wrong_command_line_serves_nothing(
    ragops: Any, options: list[str], variables: dict[str, str], said: str
) -> None:
    done = ragops("probe", "serve", *options, RAGOPS_DSN="postgresql://nobody@127.0.0.1:1/none", **variables)
    assert done.code == 2
    assert said in done.err
    assert done.out == ""


def test_a_port_that_is_taken(ragops: Any, stored: str, tiny_model: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = ragops("probe", "serve", "--port", str(port), "--model", str(tiny_model), RAGOPS_DSN=stored)
    assert done.code == 1
    assert "cannot listen on this address" in done.err and "--port 0" in done.err


def test_without_the_extra_the_command_says_what_to_install(tmp_path: Path, ragops: Any) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['starlette'] = None\n")
    done = ragops("probe", "serve", PYTHONPATH=str(tmp_path), RAGOPS_DSN="postgresql://nobody@127.0.0.1:1/none")
    assert done.code == 2
    assert "pip install 'ragops[probe]'" in done.err


def test_on_the_network_it_serves_https_or_warns(
    stored: str, spawn: Spawn, tiny_model: Path, tmp_path: Path
) -> None:
    certificate = tmp_path / "both.pem"
    certificate.write_text(CERTIFICATE, encoding="utf-8")
    variables = {"RAGOPS_DSN": stored, "PROBE_TOKEN": "a-token"}
    options = ["--port", "0", "--model", str(tiny_model), "--token-env", "PROBE_TOKEN", "--host", "0.0.0.0"]
    process = spawn(
        "probe", "serve", *options, "--tls-cert", str(certificate), "--tls-key", str(certificate), **variables
    )
    address = address_of(process).replace("0.0.0.0", "127.0.0.1")
    assert address.startswith("https://")
    with httpx.Client(trust_env=False, timeout=60, verify=False) as client:
        answer = client.get(address, params={"query": QUERY}, headers={"Authorization": "Bearer a-token"})
    assert answer.status_code == 200
    process.terminate()
    assert "plain text" not in process.communicate(timeout=60)[1]
    plain = spawn("probe", "serve", *options, **variables)
    assert "the token and the answers cross the network in plain text" in heard_before_listening(plain)
    plain.terminate()


def test_without_a_token_a_page_s_name_is_refused(stored: str, spawn: Spawn, tiny_model: Path) -> None:
    process = spawn("probe", "serve", "--port", "0", "--model", str(tiny_model), RAGOPS_DSN=stored)
    address = address_of(process)
    with httpx.Client(trust_env=False, timeout=60) as client:
        assert client.get(address, params={"query": QUERY}, headers={"Host": "evil.example"}).status_code == 421
        assert client.get(address, params={"query": QUERY}).status_code == 200
    process.terminate()

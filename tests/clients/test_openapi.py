"""Every request that the OpenAPI document allows, and many that it does not, in numbers."""

import json
import os
import subprocess
from pathlib import Path

import httpx
import pytest
from tests.clients.conftest import Server

PHASES = (("examples,coverage,fuzzing", 200), ("stateful", 25))
"""Examples of each operation by itself, and of chains of them, each of which is many requests."""
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)
TIMEOUT_S = 3000.0


def kept_response(server: Server) -> str:
    """The id of a response that can be asked for."""
    asked = {"model": server.model, "input": "Say hello.", "max_output_tokens": 4}
    name: str = httpx.post(f"{server.process.url}/responses", json=asked, timeout=60).json()["id"]
    return name


def admin_token(server: Server) -> str:
    """The one that only the server's operator can know."""
    token: str = json.loads((server.process.store / "server.json").read_text())["token"]
    return token


@pytest.mark.timeout(TIMEOUT_S)
@pytest.mark.parametrize(("phases", "examples"), PHASES)
def test_no_request_is_answered_in_a_way_that_is_not_documented(
    clients: Path, default_server: Server, tmp_path: Path, phases: str, examples: int
) -> None:
    command = [
        str(clients / "bin" / "schemathesis"),
        "run",
        f"{default_server.url}/openapi.json",
        "--checks",
        ",".join(CHECKS),
        "--phases",
        phases,
        "--max-examples",
        str(examples),
        "--workers",
        "2",
        "--request-timeout",
        "60",
        "--header",
        f"Authorization: Bearer {admin_token(default_server)}",
        "--seed",
        "20261123",
        "--no-color",
    ]
    hooks = {
        "SCHEMATHESIS_HOOKS": "tests.clients.schemathesis_hooks",
        "SEMANTIC_SERVED_MODEL": default_server.model,
        "SEMANTIC_KEPT_RESPONSE": kept_response(default_server),
        "PYTHONPATH": str(Path.cwd()),
    }
    done = subprocess.run(  # noqa: S603 - our own command
        command,
        cwd=tmp_path,
        env={**os.environ, **hooks},
        capture_output=True,
        text=True,
        check=False,
    )
    print(done.stdout)  # noqa: T201 - figures for people
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr

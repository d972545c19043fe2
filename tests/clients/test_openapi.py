"""Every request that the OpenAPI document allows, and many that it does not, in numbers."""

import os
import subprocess
from pathlib import Path

import pytest
from tests.clients.conftest import Server

EXAMPLES = 200
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)
TIMEOUT_S = 3000.0


@pytest.mark.timeout(TIMEOUT_S)
def test_no_request_is_answered_in_a_way_that_is_not_documented(
    clients: Path, default_server: Server, tmp_path: Path
) -> None:
    command = [
        str(clients / "bin" / "schemathesis"),
        "run",
        f"{default_server.url}/openapi.json",
        "--checks",
        ",".join(CHECKS),
        "--max-examples",
        str(EXAMPLES),
        "--request-timeout",
        "60",
        "--seed",
        "20261123",
        "--no-color",
    ]
    hooks = {
        "SCHEMATHESIS_HOOKS": "tests.clients.schemathesis_hooks",
        "SEMANTIC_SERVED_MODEL": default_server.model,
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

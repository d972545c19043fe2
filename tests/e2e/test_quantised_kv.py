"""A server that keeps its agents' memory in 8 bits: killed, started again, looked into."""

import json
from pathlib import Path

from bench.server_process import ServerProcess
from tests.e2e.test_restart import files, first_turn, second_turn
from typer.testing import CliRunner

from semantic.entrypoints.cli import app

IN_8_BITS = {"SEMANTIC_STORE__KV_BITS": "8"}
BYTES_A_TOKEN = 46_080
"""Of the default model in float32; 12,960 in 8 bits, and headers come on top."""


def told(store: Path, command: str) -> tuple[int, dict[str, object]]:
    """How a command on the store ended, and what it said."""
    ended = CliRunner().invoke(app, ["cache", command, "--store", str(store), "--json"])
    said: dict[str, object] = json.loads(ended.stdout)
    return ended.exit_code, said


def test_after_sigkill_the_agent_goes_on_from_8_bits_and_commands_know_its_store(
    tmp_path: Path, settings_of_servers: dict[str, str]
) -> None:
    store, log = tmp_path / "store", tmp_path / "log"
    server = ServerProcess(store, log=log, settings=settings_of_servers | IN_8_BITS)
    with server:
        conversation, first = first_turn(server)
        server.kill()
    size = sum(path.stat().st_size for path in files(store))
    with server:
        second = second_turn(server, conversation)
        server.kill()
    assert second.cached_tokens == first.prompt_tokens + 6
    assert second.text.strip()
    assert "kv_bits=8" in log.read_text()
    assert size < 0.3 * BYTES_A_TOKEN * second.cached_tokens

    assert told(store, "stats")[0] == 0
    ended, verified = told(store, "verify")
    assert (ended, verified["damaged"]) == (0, [])
    assert told(store, "rebuild")[0] == 0
    damaged = files(store)[0]
    content = bytearray(damaged.read_bytes())
    content[-7] ^= 1
    damaged.write_bytes(content)
    ended, verified = told(store, "verify")
    assert ended == 1
    assert damaged.name in str(verified["damaged"])

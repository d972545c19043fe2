"""The real command line with a real server."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from bench.server_process import ServerProcess
from tests.smoke.conftest import Finished, finish, reused

AGENT = "zoë/1 🦜"
SECRET = "My cat is called Ptolemy."  # noqa: S105 - a text to look for in the log
Command = Callable[..., Finished]


@pytest.fixture
def semantic(tmp_path: Path, settings: dict[str, str]) -> Command:
    """Run `semantic` on the store of the test's server, with `stdin`."""

    def run(*arguments: str, stdin: str = "") -> Finished:
        store = ["--store", str(tmp_path / "store")]
        command = [sys.executable, "-m", "semantic", *arguments, *store]
        return finish(command, settings, stdin=stdin)

    return run


def test_an_agent_is_talked_to_looked_at_and_forgotten(
    tmp_path: Path, settings: dict[str, str], semantic: Command
) -> None:
    options = ["--agent", AGENT, "--max-tokens", "6", "--temperature", "0"]
    # What was said is looked at on the disk, as soon as it was answered.
    settings = settings | {"SEMANTIC_STORE__DURABILITY": "full"}
    with ServerProcess(tmp_path / "store", log=tmp_path / "log", settings=settings) as server:
        # No --url: the server has left its address in the store.
        first = semantic("chat", *options, stdin=f"{SECRET}\nWhat is it called?\n")
        assert reused(first)[0] == 0
        assert reused(first)[1] > 20
        assert len(first.stdout.splitlines()) >= 2
        listed = json.loads(semantic("agents", "list", "--json").stdout)
        assert [agent["name"] for agent in listed] == [AGENT]
        [shown] = json.loads(semantic("agents", "show", AGENT, "--json").stdout)
        assert shown["bytes_alone"] == shown["bytes"] > 0

        use = json.loads(semantic("memory", "--json").stdout)
        assert 0 < use["cached"] == use["total"] - use["free"]
        assert (use["pressure"], use["in_work"], use["preemptions"]) == ("low", 0, 0)

        assert semantic("agents", "delete", "nobody").returncode == 1
        deleted = semantic("agents", "delete", AGENT)
        assert (deleted.returncode, deleted.stderr) == (0, "")
        assert list((tmp_path / "store").rglob("*.st")) == []
        assert json.loads(semantic("agents", "list", "--json").stdout) == []
        assert reused(semantic("chat", *options, stdin=f"{SECRET}\n")) == [0]

        address = server.url.removesuffix("/v1")
        for path in ("agents", "memory"):
            assert httpx.get(f"{address}/admin/{path}").status_code == 401
        assert server.stop() == 0
    assert not (tmp_path / "store" / "server.json").exists()
    check_log((tmp_path / "log").read_text())


def check_log(log: str) -> None:
    lines = [json.loads(line) for line in log.splitlines()]
    finished = [line for line in lines if line["event"] == "request_finished"]
    assert len(finished) == 3
    assert len({line["request_id"] for line in finished}) == 3
    assert all(len(line["agent"]) == 64 for line in finished)
    for key in ("prompt_tokens", "cached_tokens", "completion_tokens", "ttft_s", "duration_s"):
        assert all(line[key] is not None for line in finished), key
    assert SECRET not in log
    assert "Ptolemy" not in log
    assert AGENT not in log


def test_a_start_can_be_interrupted(tmp_path: Path, settings: dict[str, str]) -> None:
    server = subprocess.Popen(  # noqa: S603 - our own command
        [sys.executable, "-m", "semantic", "serve", "--port", "0", "--store", str(tmp_path)],
        env={**os.environ, **settings},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert server.stderr is not None
    with server.stderr as log:
        said = next(line for line in log if '"blas"' in line)
        server.send_signal(signal.SIGINT)
        said += log.read()
    assert server.wait(10) == 128 + signal.SIGINT
    assert said.endswith("stopped by SIGINT\n")
    assert "Traceback" not in said

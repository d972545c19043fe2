"""Keys and tenants on a real server: nobody is let in without, and nobody sees another's."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from bench.server_process import ServerProcess

SYSTEM = " ".join(f"Rule {number}: be brief and kind." for number in range(60))
"""Longer than one block."""
SEEN_WITHIN_S = 1.0
SLACK_S = 1.0
"""For a machine that is busy."""


@dataclass
class Guarded:
    """A server whose store has keys."""

    server: ServerProcess
    log: Path

    @property
    def root(self) -> str:
        return self.server.url.removesuffix("/v1")

    def semantic(self, *arguments: str) -> str:
        """What a command says about the server's store."""
        command = [sys.executable, "-m", "semantic", *arguments, "--store", str(self.server.store)]
        done = subprocess.run(  # noqa: S603 - our own command
            command, capture_output=True, text=True, timeout=60, check=True
        )
        return done.stdout.strip()

    def key(self, name: str, *options: str) -> str:
        """A new key."""
        return self.semantic("keys", "create", name, *options)

    def ask(self, key: str, text: str = "hi", agent: str | None = None) -> httpx.Response:
        """An answer of few tokens."""
        body = {
            "model": "smollm2-135m-instruct",
            "messages": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": text}],
            "max_tokens": 4,
            "temperature": 0,
        }
        headers = {"Authorization": f"Bearer {key}"} | ({"X-Agent-ID": agent} if agent else {})
        url = f"{self.server.url}/chat/completions"
        return httpx.post(url, json=body, headers=headers, timeout=60)

    def cached(self, key: str, text: str = "hi", agent: str | None = None) -> int:
        """How many tokens of a prompt were reused."""
        answer = self.ask(key, text, agent)
        assert answer.status_code == 200, answer.text
        found: int = answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"]
        return found

    def agents(self, tenant: str) -> list[str]:
        """Of a tenant, as the running server tells."""
        note = json.loads((self.server.store / "server.json").read_text())
        headers = {"Authorization": f"Bearer {note['token']}"}
        url = f"{self.root}/admin/agents"
        found = httpx.get(url, params={"tenant": tenant}, headers=headers).json()["data"]
        return [agent["name"] for agent in found]


@pytest.fixture(scope="module")
def guarded(
    tmp_path_factory: pytest.TempPathFactory, settings_of_servers: dict[str, str]
) -> Iterator[Guarded]:
    folder: Path = tmp_path_factory.mktemp("guarded")
    settings = settings_of_servers | {"SEMANTIC_LOGGING__FORMAT": "json"}
    server = ServerProcess(folder / "store", log=folder / "log", settings=settings)
    guarded = Guarded(server, folder / "log")
    with server:
        yield guarded


def test_a_key_counts_from_the_second_it_is_made_to_the_one_it_is_revoked(
    guarded: Guarded,
) -> None:
    assert httpx.get(f"{guarded.root}/v1/models").status_code == 200
    key = guarded.key("first")
    within(lambda: httpx.get(f"{guarded.root}/v1/models").status_code == 401)
    headers = {"x-api-key": key}
    assert httpx.get(f"{guarded.root}/v1/models", headers=headers).status_code == 200
    guarded.semantic("keys", "revoke", "first")
    within(lambda: httpx.get(f"{guarded.root}/v1/models", headers=headers).status_code == 401)
    assert httpx.get(f"{guarded.root}/health/ready").status_code == 200


def test_tenants_share_nothing_and_see_nothing_of_each_other(guarded: Guarded) -> None:
    ours, theirs = guarded.key("ours", "--tenant", "ours"), guarded.key("theirs", "--tenant", "o2")
    second = guarded.key("ours-2", "--tenant", "ours")
    within(lambda: guarded.ask(second).status_code == 200)
    assert guarded.cached(ours, agent="alice") > 256
    # The same prompt of an agent of the same name, and one of nobody's.
    assert guarded.cached(theirs, agent="alice") == 0
    assert guarded.cached(theirs, "hi") > 256
    assert (guarded.agents("ours"), guarded.agents("o2")) == (["alice"], ["alice"])
    assert guarded.agents("default") == []
    listed = json.loads(guarded.semantic("agents", "list", "--tenant", "o2", "--json"))
    assert [agent["name"] for agent in listed] == ["alice"]
    guarded.semantic("agents", "delete", "alice", "--tenant", "o2")
    assert (guarded.agents("ours"), guarded.agents("o2")) == (["alice"], [])


def test_what_is_published_is_everybodys(guarded: Guarded) -> None:
    publisher = guarded.key("publisher", "--tenant", "public")
    reader = guarded.key("reader", "--tenant", "reader")
    within(lambda: guarded.ask(publisher, "Hello!").status_code == 200)
    assert guarded.cached(reader, "Who are you?") > 256


def test_the_log_tells_whose_a_request_was_and_holds_no_key(guarded: Guarded) -> None:
    key = guarded.key("logged", "--tenant", "logs")
    within(lambda: guarded.ask(key).status_code == 200)
    lines = [json.loads(line) for line in guarded.log.read_text().splitlines()]
    mine = [line for line in lines if line.get("caller") == "logged"]
    assert "request_finished" in {line["event"] for line in mine}
    assert {line["tenant"] for line in mine} == {"logs"}
    assert key not in guarded.log.read_text()


def within(happens: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SEEN_WITHIN_S + SLACK_S
    while not happens():
        assert time.monotonic() < deadline
        time.sleep(0.05)

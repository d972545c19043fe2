"""Kills a real server that several agents talk to, again and again, and sees what they remember.

Each round starts `semantic serve` on the same store, has every agent go on, then lets all of them
talk at once until SIGKILL at a random moment: while it reads a prompt, answers, writes, or idles.
After a restart the store must verify clean, and each agent's next turn must find everything that
was acknowledged to it in the cache. Beside it a server that nobody kills has the same
conversations: each answer must be the same. Exits with 1 otherwise.

Requests are worked on one at a time, so that every run computes the same (promise (b) of the
architecture): how many come at once changes the last bits of what is computed.
"""

import argparse
import json
import random
import ssl
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from bench.conversations import SCRIPTS, Conversation, Turn
from bench.server_process import STOP_TIMEOUT_S, ServerProcess
from openai import DefaultHttpxClient, OpenAI

from semantic.adapters.config.settings import StoreSettings

ROUNDS = 50
AGENTS = 3
_PATIENCE_S = 120.0
_NO_CERTIFICATES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Nothing needs them here, and reading them for every turn would take longer than the turn."""
_LIVES = 10
"""Rounds after which others come, before conversations are too long for the model."""
_MOST_TURNS = 2
_LONGEST_S = 0.6
"""A server dies so long after so many turns at most, however fast the machine is."""
_OPENING_TOKENS = 250
_ANSWER_TOKENS = 3


@dataclass
class Told:
    """One agent's conversation: what it was answered, and what it may expect to be remembered."""

    name: str
    opening: str
    turns: list[tuple[str, Turn, bool]] = field(default_factory=list)
    """Question, answer, and whether it was the first one after a restart."""
    messages: list[dict[str, str]] = field(default_factory=list)

    @property
    def question(self) -> str:
        """What it asks next."""
        return f"Say {len(self.turns)} in words." if self.turns else self.opening

    @property
    def acknowledged(self) -> int:
        """Tokens of which it was told that they were processed."""
        if not self.turns:
            return 0
        last = self.turns[-1][1]
        return last.prompt_tokens + last.completion_tokens

    def go_on(self, server: ServerProcess, *, restored: bool = False) -> Turn:
        """Another turn. If the server dies, nothing has happened."""
        question = self.question
        with _client(server) as client:
            talk = Conversation(client, self.name, list(self.messages))  # type: ignore[arg-type]
            turn = talk.ask(question, _ANSWER_TOKENS)
        self.messages = list(talk.messages)  # type: ignore[arg-type]
        self.turns.append((question, turn, restored))
        return turn


@dataclass
class Totals:
    """What came of all rounds."""

    rounds: int = 0
    turns: int = 0
    restored: int = 0
    interrupted: int = 0
    forgotten: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)

    @property
    def bad(self) -> list[str]:
        """All that is wrong."""
        return [*self.forgotten, *self.damaged, *self.different]


class Rounds:
    """Plays all rounds in a folder; `settings` are the servers' environment."""

    def __init__(
        self, folder: Path, settings: Mapping[str, str], seed: int, agents: int = AGENTS
    ) -> None:
        self._at_once = agents
        self._folder = folder
        self._settings = {**settings, "SEMANTIC_ENGINE__MAX_BATCH": "1"}
        if "durability" in StoreSettings.model_fields:
            self._settings["SEMANTIC_STORE__DURABILITY"] = "full"
        self._numbers = random.Random(seed)  # noqa: S311 - reproducible, no secrets
        self._agents: list[Told] = []
        self._whole: dict[str, Told] = {}
        self.totals = Totals()

    def play(self, rounds: int) -> Totals:
        """So many kills; beside each new start, the comparison with a server that is not killed."""
        server, whole = self._server("killed"), self._server("whole")
        # Both may be asked for while they start, and each start takes a core for seconds.
        with ThreadPoolExecutor(1) as beside:
            checked = beside.submit(whole.start)
            try:
                for number in range(rounds):
                    if number % _LIVES == 0:
                        talking = [self._agent(number, place) for place in range(self._at_once)]
                        self._agents += talking
                    server.start()
                    checked.result()
                    self._restored(server, talking)
                    self._talk_until_killed(server, talking)
                    checked = beside.submit(self._check, server.store, whole)
                    self.totals.rounds += 1
                server.start()
                checked.result()
                self._restored(server, talking)
                self._check(server.store, whole)
            finally:
                server.kill()
                beside.submit(whole.kill).result()
        return self.totals

    def _check(self, store: Path, whole: ServerProcess) -> ServerProcess:
        self._verify(store)
        self._compare(whole)
        return whole

    def _agent(self, number: int, place: int) -> Told:
        page = SCRIPTS[place].page(_OPENING_TOKENS)
        return Told(f"agent-{number}-{place}", f"{page}\n\n{number}. {SCRIPTS[place].first}")

    def _server(self, name: str) -> ServerProcess:
        log = self._folder / f"{name}.log"
        return ServerProcess(self._folder / name, log=log, settings=self._settings)

    def _restored(self, server: ServerProcess, talking: list[Told]) -> None:
        for agent in [agent for agent in talking if agent.turns]:
            expected = agent.acknowledged
            turn = agent.go_on(server, restored=True)
            self.totals.restored += 1
            if turn.cached_tokens < expected:
                self.totals.forgotten.append(
                    f"{agent.name}: {turn.cached_tokens} tokens of {expected} are remembered"
                )

    def _talk_until_killed(self, server: ServerProcess, talking: list[Told]) -> None:
        """All talk at once; one that is idle when it ends has come to the end of its turns."""
        turns = threading.Semaphore(0)

        def talk(agent: Told) -> None:
            try:
                for _ in range(_MOST_TURNS):
                    agent.go_on(server)
                    turns.release()
            except Exception:  # noqa: BLE001 - what a client sees of a server that is killed
                server.process.wait(STOP_TIMEOUT_S)
                self.totals.interrupted += 1

        threads = [threading.Thread(target=talk, args=(agent,)) for agent in talking]
        for thread in threads:
            thread.start()
        for _ in range(self._numbers.randrange(_MOST_TURNS * self._at_once)):
            turns.acquire(timeout=_PATIENCE_S)
        threading.Event().wait(self._numbers.random() * _LONGEST_S)
        server.kill()
        for thread in threads:
            thread.join()

    def _verify(self, store: Path) -> None:
        command = [sys.executable, "-m", "semantic", "cache", "verify", "--store", str(store)]
        done = subprocess.run(  # noqa: S603 - our own command
            [*command, "--json"], capture_output=True, text=True, check=False
        )
        if done.returncode or json.loads(done.stdout)["damaged"]:
            self.totals.damaged.append(done.stdout + done.stderr)

    def _compare(self, server: ServerProcess) -> None:
        """What was said since the last time, with a server that nobody kills."""
        for agent in self._agents:
            whole = self._whole.setdefault(agent.name, Told(agent.name, agent.opening))
            for question, turn, restored in agent.turns[len(whole.turns) :]:
                self.totals.turns += 1
                same = whole.go_on(server)
                if same.text != turn.text:
                    kind = "restored" if restored else "later"
                    self.totals.different.append(
                        f"{agent.name}, {kind} turn {len(whole.turns)}, {question[:20]!r}: "
                        f"{turn.text!r} instead of {same.text!r}"
                    )
                    whole.messages = list(agent.messages)


def _client(server: ServerProcess) -> OpenAI:
    quick = DefaultHttpxClient(verify=_NO_CERTIFICATES, timeout=_PATIENCE_S)
    return OpenAI(base_url=server.url, api_key="not needed", max_retries=0, http_client=quick)


def main() -> int:
    """Kill, print and judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seed", type=int, default=20261123)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = Rounds(Path(folder), {}, options.seed).play(options.rounds)
    print(
        f"{found.rounds} kills of the server: {len(found.forgotten)} acknowledged turns forgotten, "
        f"{len(found.damaged)} stores damaged, {len(found.different)} of {found.turns} answers "
        f"different; {found.restored} turns after a restart, {found.interrupted} requests cut off"
    )
    for one in found.bad[:20]:
        print(f"  {one}")
    return int(bool(found.bad))


if __name__ == "__main__":
    sys.exit(main())

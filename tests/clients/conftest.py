"""Real servers for real clients: with the default model, and with one that plays a script."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from bench.server_process import ServerProcess
from tests.clients.coding_agents import Place
from tests.clients.served_requests import Served, served
from tests.fakes.scripted_llama import Script, call_text, write_folder

from semantic.domain.answer_syntax import HERMES

CLIENTS = Path(os.environ.get("SEMANTIC_CLIENTS", ".venv-clients")).absolute()
PROGRAMS = Path(__file__).with_name("programs")
PROGRAM_TIMEOUT_S = 240.0
ANSWER = "The file has five words, and the meeting is on Friday."

SETTINGS = {
    "SEMANTIC_ENGINE__BLAS_THREADS": "1",
    # Servers are killed as soon as an answer has ended.
    "SEMANTIC_STORE__DURABILITY": "full",
    "SEMANTIC_STORE__MIN_FREE_BYTES": "0",
    "SEMANTIC_LOGGING__LEVEL": "INFO",
    "SEMANTIC_LOGGING__FORMAT": "json",
}


@dataclass(frozen=True)
class Server:
    """A running server, the name of its model, and what it has answered."""

    process: ServerProcess
    log: Path

    @property
    def url(self) -> str:
        """Without a path."""
        return self.process.url.removesuffix("/v1")

    @property
    def model(self) -> str:
        """As clients name it."""
        name: str = httpx.get(f"{self.process.url}/models").json()["data"][0]["id"]
        return name

    @property
    def served(self) -> list[Served]:
        """All requests so far."""
        return served(self.log)

    def restart_after_kill(self) -> None:
        """SIGKILL, and the same store in a new process."""
        self.process.kill()
        self.process.start()


ScriptedServer = Callable[[str, Any], Server]
"""With a model that calls a tool, and then answers."""


@pytest.fixture(scope="session")
def clients() -> Path:
    """Where `make test-clients` has put the clients."""
    if not (CLIENTS / ".ready").exists():
        pytest.fail(f"there are no clients in {CLIENTS}: `make test-clients` puts them there")
    return CLIENTS


@pytest.fixture
def place(clients: Path, tmp_path: Path) -> Iterator[Place]:
    """An empty home, and a project with one file."""
    # Not under /tmp: Codex refuses to work there.
    scratch = clients / "scratch" / tmp_path.name
    shutil.rmtree(scratch, ignore_errors=True)
    place = Place(clients / "node" / "node_modules" / ".bin", scratch / "home", scratch / "project")
    place.home.mkdir(parents=True)
    place.work.mkdir()
    (place.work / "notes.txt").write_text("The meeting is on Friday.\n")
    yield place
    shutil.rmtree(scratch, ignore_errors=True)


@pytest.fixture
def scripted_server(tmp_path: Path, default_model_dir: Path) -> Iterator[ScriptedServer]:
    """Start a server whose model calls the named tool once, and then says `ANSWER`."""
    started: list[ServerProcess] = []

    def start(tool: str, arguments: Any) -> Server:
        script = Script(call_text(HERMES, tool, arguments), ANSWER)
        model = write_folder(tmp_path / "scripted", script, default_model_dir)
        log = tmp_path / "server.log"
        settings = {**SETTINGS, "SEMANTIC_MODEL__ID": str(model)}
        process = ServerProcess(tmp_path / "store", log=log, settings=settings)
        started.append(process)
        return Server(process.start(), log)

    yield start
    for process in started:
        process.kill()


@pytest.fixture(scope="module")
def default_server(
    tmp_path_factory: pytest.TempPathFactory, default_model_dir: Path, model_cache_dir: Path
) -> Iterator[Server]:
    """A server with the default model, too weak to choose tools well."""
    assert default_model_dir.is_dir()
    folder = tmp_path_factory.mktemp("default")
    settings = {
        **SETTINGS,
        "SEMANTIC_MODEL__CACHE_DIR": str(model_cache_dir),
        "SEMANTIC_GENERATION__DEFAULT_MAX_TOKENS": "8",
    }
    log = folder / "server.log"
    process = ServerProcess(folder / "store", log=log, settings=settings)
    with process:
        yield Server(process, log)


def run_program(command: list[str], folder: Path) -> str:
    """What a program printed.

    Raises:
        AssertionError: with what it complained of, if it failed.
    """
    done = subprocess.run(  # noqa: S603 - our own programs
        command,
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "NO_PROXY": "127.0.0.1"},
        capture_output=True,
        text=True,
        timeout=PROGRAM_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout

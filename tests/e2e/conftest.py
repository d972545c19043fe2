"""A real server for the session, and new ones for tests that kill theirs."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bench.server_process import ServerProcess
from openai import OpenAI

StartServer = Callable[[Path], ServerProcess]


@pytest.fixture(scope="session")
def settings_of_servers(default_model_dir: Path, model_cache_dir: Path) -> dict[str, str]:
    """Environment of every server: the converted model, one BLAS thread, and safe at the end."""
    assert default_model_dir.is_dir()
    return {
        "SEMANTIC_MODEL__CACHE_DIR": str(model_cache_dir),
        "SEMANTIC_ENGINE__BLAS_THREADS": "1",
        # Tests kill servers, or copy their stores, as soon as an answer has ended.
        "SEMANTIC_STORE__DURABILITY": "full",
    }


@pytest.fixture
def start_server(tmp_path: Path, settings_of_servers: dict[str, str]) -> Iterator[StartServer]:
    """Start a server on a store; whatever still runs when the test ends is killed."""
    servers: list[ServerProcess] = []

    def start(store: Path) -> ServerProcess:
        server = ServerProcess(store, log=tmp_path / "server.log", settings=settings_of_servers)
        servers.append(server)
        return server.start()

    yield start
    for server in servers:
        server.kill()


@pytest.fixture(scope="session")
def shared_server(
    tmp_path_factory: pytest.TempPathFactory, settings_of_servers: dict[str, str]
) -> Iterator[ServerProcess]:
    """One server for all tests that leave it as it is."""
    folder = tmp_path_factory.mktemp("shared-server")
    server = ServerProcess(
        folder / "store", log=folder / "server.log", settings=settings_of_servers
    )
    with server:
        yield server


@pytest.fixture
def client(shared_server: ServerProcess) -> Iterator[OpenAI]:
    """The official client on the shared server."""
    with connect(shared_server) as connected:
        yield connected


def connect(server: ServerProcess) -> OpenAI:
    """The official client on a server."""
    return OpenAI(base_url=server.url, api_key="not needed", max_retries=0, timeout=120)

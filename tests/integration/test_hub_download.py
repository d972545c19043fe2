"""A hub's settings are read when its client is imported: each case is a process of its own."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fakes import tiny_llama
from tests.fakes.local_hub import MODEL_ID, local_hub

from semantic.adapters.outbound.mlx import gguf_import
from semantic.adapters.outbound.mlx.tokenizer import MlxTokenizer

_RESOLVE = """
import json, sys
from pathlib import Path
from semantic.adapters.outbound.mlx import hub_download
from semantic.adapters.outbound.mlx.model_source import resolve
from semantic.domain.errors import ModelNotFoundError
from tests.fakes.recorded_telemetry import RecordedTelemetry
hub_download._REPORT_EVERY_S = 0.05
hub_download._SILENCE_LIMIT_S = 2.0
telemetry = RecordedTelemetry()
try:
    model = resolve(sys.argv[1], Path(sys.argv[2]), telemetry)
    answer = {"path": str(model.path), "model_id": model.model_id}
except ModelNotFoundError as error:
    answer = {"tried": " | ".join(error.tried)}
answer["progress"] = max((f["received_bytes"] for _, _, f in telemetry.events), default=0)
print(json.dumps(answer))
"""
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the hub's model holds: a tiny llama, and files that a server has no use for."""
    scratch = tmp_path_factory.mktemp("published")
    folder = scratch / "model"
    gguf_import.convert(tiny_llama.write(scratch / "tiny.gguf"), folder)
    (folder / "modeling.py").write_text("raise SystemExit('code from the hub ran')")
    (folder / "original").mkdir()
    (folder / "original" / "model.safetensors").write_bytes(b"the same in another format")
    return folder


@pytest.fixture
def silent_server() -> Iterator[str]:
    """Takes connections, and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def resolved(home: Path, model_id: str = MODEL_ID, **settings: str) -> dict[str, str]:
    hidden = ("HF_", "HUGGING", "TRANSFORMERS_")
    env = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    env |= {"HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1"}
    done = subprocess.run(  # noqa: S603 - our own interpreter and script
        [sys.executable, "-c", _RESOLVE, model_id, str(home / "converted")],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=60,
        env=env | {"PYTHONPATH": str(ROOT)} | settings,
    )
    answer: dict[str, str] = json.loads(done.stdout)
    return answer


def test_a_model_comes_from_the_hub_and_stays(published: Path, tmp_path: Path) -> None:
    with local_hub(published, seconds_between_files=0.2) as hub:
        first = resolved(tmp_path, HF_ENDPOINT=hub.url)
    assert first["model_id"] == MODEL_ID
    folder = Path(first["path"])
    wanted = {p.name for p in published.iterdir() if p.is_file()} - {"modeling.py"}
    assert {p.name for p in folder.iterdir()} == wanted
    for name in wanted:
        assert (folder / name).read_bytes() == (published / name).read_bytes()
    assert MlxTokenizer.load(folder).stop_tokens == {1}
    assert int(first["progress"]) > 0

    gone = resolved(tmp_path, HF_ENDPOINT=hub.url)
    assert gone["path"] == first["path"]
    offline = resolved(tmp_path, HF_ENDPOINT=hub.url, HF_HUB_OFFLINE="1")
    assert offline["path"] == first["path"]


def test_a_kept_model_is_not_fetched_again(published: Path, tmp_path: Path) -> None:
    with local_hub(published) as hub:
        resolved(tmp_path, HF_ENDPOINT=hub.url)
        hub.requested.clear()
        resolved(tmp_path, HF_ENDPOINT=hub.url)
    assert not [path for path in hub.requested if path.endswith(".safetensors")]


def test_a_model_that_the_hub_lacks_names_the_hub(published: Path, tmp_path: Path) -> None:
    with local_hub(published) as hub:
        tried = resolved(tmp_path, "nobody/nothing", HF_ENDPOINT=hub.url)["tried"]
    assert hub.url in tried
    assert "RepositoryNotFoundError" in tried
    assert str(tmp_path) in tried


def test_a_hub_that_may_not_be_asked_is_not(published: Path, tmp_path: Path) -> None:
    with local_hub(published) as hub:
        tried = resolved(tmp_path, HF_ENDPOINT=hub.url, HF_HUB_OFFLINE="1")["tried"]
    assert "HF_HUB_OFFLINE" in tried
    assert hub.requested == []


def test_a_missing_network_is_an_error(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        nobody = f"http://127.0.0.1:{server.getsockname()[1]}"
    tried = resolved(tmp_path, HF_ENDPOINT=nobody)["tried"]
    assert nobody in tried
    assert "ConnectError" in tried


def test_a_hub_that_never_answers_is_given_up(silent_server: str, tmp_path: Path) -> None:
    assert silent_server in resolved(tmp_path, HF_ENDPOINT=silent_server)["tried"]


def test_a_malformed_name_is_not_asked(published: Path, tmp_path: Path) -> None:
    with local_hub(published) as hub:
        for model_id in ("a/b/c", "-", "name.git"):
            assert "tried" in resolved(tmp_path, model_id, HF_ENDPOINT=hub.url)
    assert hub.requested == []

"""Starting, refusing to start, and leaving in good order."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from bench.server_process import ServerProcess


@pytest.fixture
def settings(default_model_dir: Path, model_cache_dir: Path) -> dict[str, str]:
    assert default_model_dir.is_dir()
    return {
        "SEMANTIC_MODEL__CACHE_DIR": str(model_cache_dir),
        "SEMANTIC_ENGINE__BLAS_THREADS": "1",
    }


def serve(settings: dict[str, str], *options: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-m", "semantic", "serve", "--port", "0", *options],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_second_server_on_the_same_store_is_refused(
    tmp_path: Path, settings: dict[str, str]
) -> None:
    with ServerProcess(tmp_path / "store", log=tmp_path / "log", settings=settings) as server:
        second = serve(settings, "--store", str(tmp_path / "store"))
        assert second.returncode == 1
        assert f"in use by process {server.process.pid}" in second.stderr
        assert "Traceback" not in second.stderr
        assert httpx.get(server.url.replace("/v1", "/health/live")).is_success


def test_sigterm_ends_a_running_answer_and_the_server(
    tmp_path: Path, settings: dict[str, str]
) -> None:
    quick = {**settings, "SEMANTIC_SERVER__SHUTDOWN_TIMEOUT_S": "2"}
    with ServerProcess(tmp_path / "store", log=tmp_path / "log", settings=quick) as server:
        body = {
            "model": "smollm2-135m-instruct",
            "messages": [{"role": "user", "content": "Count to one thousand."}],
            "max_tokens": 4000,
            "stream": True,
        }
        with httpx.stream(
            "POST", f"{server.url}/chat/completions", json=body, timeout=60
        ) as answer:
            lines = answer.iter_lines()
            while '"content":""' in next(line for line in lines if line.startswith("data")):
                pass
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(20) == 0
    # The tail of the answer that was cut short is on disk.
    assert list((tmp_path / "store" / "blk").rglob("*.tail.st"))


def test_an_unknown_model_is_one_clear_line(tmp_path: Path, settings: dict[str, str]) -> None:
    failed = serve(settings, "--store", str(tmp_path), "--model", "/no/such/folder")
    assert failed.returncode == 1
    assert "/no/such/folder" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_a_taken_port_is_one_clear_line(tmp_path: Path, settings: dict[str, str]) -> None:
    with ServerProcess(tmp_path / "store", log=tmp_path / "log", settings=settings) as server:
        port = server.url.rsplit(":", 1)[1].removesuffix("/v1")
        failed = serve(settings, "--store", str(tmp_path / "other"), "--port", port)
    assert failed.returncode == 2
    assert "cannot listen on" in failed.stderr

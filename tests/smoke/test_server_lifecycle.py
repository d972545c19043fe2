"""Starting, refusing to start, and leaving in good order."""

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from bench.server_process import ServerProcess
from tests.smoke.conftest import Finished, finish, long_answer

HALF_A_REQUEST = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
)


def serve(settings: dict[str, str], *options: str) -> Finished:
    return finish([sys.executable, "-m", "semantic", "serve", "--port", "0", *options], settings)


def test_a_second_server_on_the_same_store_is_refused(
    tmp_path: Path, settings: dict[str, str]
) -> None:
    with ServerProcess(tmp_path / "store", log=tmp_path / "log", settings=settings) as server:
        second = serve(settings, "--store", str(tmp_path / "store"))
        assert second.returncode == 1
        assert f"in use by process {server.process.pid}" in second.stderr
        assert "Traceback" not in second.stderr
        assert httpx.get(server.url.replace("/v1", "/health/live")).is_success


@pytest.mark.parametrize("asked", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_running_answer_and_the_server(
    tmp_path: Path, settings: dict[str, str], asked: signal.Signals
) -> None:
    server = ServerProcess(tmp_path / "store", log=tmp_path / "log", settings=settings)
    with server, long_answer(server.url):
        server.process.send_signal(asked)
        assert server.process.wait(20) == 0
    assert not (tmp_path / "store" / "server.json").exists()
    # The tail of the answer that was cut short is on disk.
    assert list((tmp_path / "store" / "blk").rglob("*.tail.st"))
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_a_client_that_never_ends_its_request_does_not_hold_up_the_end(
    tmp_path: Path, settings: dict[str, str]
) -> None:
    with ServerProcess(tmp_path / "store", log=tmp_path / "log", settings=settings) as server:
        address = httpx.URL(server.url)
        with socket.create_connection((address.host, address.port)) as client:
            client.sendall(HALF_A_REQUEST)
            # Answered after it: what was sent before has been read by then.
            assert httpx.get(server.url.replace("/v1", "/health/live")).is_success
            assert server.stop() == 0
            assert client.recv(1000).startswith(b"HTTP/1.1 503 ")
    log = (tmp_path / "log").read_text()
    assert "Traceback" not in log
    [line] = [json.loads(line) for line in log.splitlines() if "request_failed" in line]
    assert line["error"] == "ServerStoppingError"
    assert line["request_id"]


def test_who_asks_twice_to_stop_is_not_kept_waiting(
    tmp_path: Path, settings: dict[str, str]
) -> None:
    patient = {**settings, "SEMANTIC_SERVER__SHUTDOWN_TIMEOUT_S": "100"}
    server = ServerProcess(tmp_path / "store", log=tmp_path / "log", settings=patient)
    with server, long_answer(server.url):
        server.process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            server.process.wait(0.5)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0
    # What the answer had computed is on disk all the same.
    assert list((tmp_path / "store" / "blk").rglob("*.tail.st"))
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_an_unknown_model_is_one_clear_line(tmp_path: Path, settings: dict[str, str]) -> None:
    failed = serve(settings, "--store", str(tmp_path), "--model", "/no/such/folder")
    assert failed.returncode == 1
    assert "/no/such/folder" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_a_host_that_no_name_server_can_be_asked_for_is_one_clear_line(
    tmp_path: Path, settings: dict[str, str]
) -> None:
    failed = serve(settings, "--store", str(tmp_path), "--host", "x" * 300)
    assert failed.returncode == 2
    assert failed.stderr.startswith("error: cannot listen on xxx")
    assert failed.stderr.count("\n") == 1


def test_a_taken_port_is_one_clear_line(tmp_path: Path, settings: dict[str, str]) -> None:
    with ServerProcess(tmp_path / "store", log=tmp_path / "log", settings=settings) as server:
        port = server.url.rsplit(":", 1)[1].removesuffix("/v1")
        failed = serve(settings, "--store", str(tmp_path / "other"), "--port", port)
    assert failed.returncode == 2
    assert "cannot listen on" in failed.stderr

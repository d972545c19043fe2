import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from semantic.adapters.config.settings import SettingsError
from semantic.adapters.config.sources import load_settings
from semantic.entrypoints import running_server, server_note
from semantic.entrypoints.running_server import ServerError, find, root_url
from semantic.entrypoints.server_note import ServerNote


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),  # noqa: S104 - nothing is bound
        ("::", "http://[::1]:80"),
        ("fe80::1", "http://[fe80::1]:80"),
        ("example.org", "http://example.org:80"),
    ],
)
def test_a_server_is_reached_where_it_listens(host: str, url: str) -> None:
    assert root_url(host, 80) == url


@pytest.mark.parametrize("url", ["http://h:1", "http://h:1/", "http://h:1/v1", "http://h:1/v1/"])
def test_the_address_given_may_be_that_of_the_api(url: str) -> None:
    assert find(url, load_settings(env_file=None)) == "http://h:1"


def test_without_one_it_is_where_the_settings_say(tmp_path: Path) -> None:
    server_note.write(tmp_path, ServerNote("http://127.0.0.1:1", "of a server that is gone"))
    given = {"store": {"dir": str(tmp_path)}, "server": {"port": 7, "host": "127.0.0.1"}}
    assert find(None, load_settings(given, env_file=None)) == "http://127.0.0.1:7"


@pytest.mark.parametrize(("status", "found"), [(200, True), (503, True), (404, False)])
def test_one_that_cannot_work_is_still_the_stores(
    tmp_path: Path, status: int, *, found: bool
) -> None:
    class Answering(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Not on a test's output."""

    given = {"store": {"dir": str(tmp_path)}, "server": {"port": 7, "host": "127.0.0.1"}}
    with HTTPServer(("127.0.0.1", 0), Answering) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        server_note.write(tmp_path, ServerNote(url, "token"))
        assert (find(None, load_settings(given, env_file=None)) == url) == found


@pytest.mark.parametrize("url", ["", "nonsense", "ftp://x", "http://", "http://a:b"])
def test_what_is_no_address_is_told_as_such(url: str) -> None:
    with pytest.raises(SettingsError, match="is not the address of a server"):
        running_server.client(url)


def test_where_nobody_answers_the_way_out_is_told() -> None:
    with pytest.raises(ServerError, match="start one with: semantic serve"):
        running_server.served_models("http://127.0.0.1:1")

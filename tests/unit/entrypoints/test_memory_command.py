import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
from tests.fakes.answering_server import server_of
from tests.fakes.scripted_administration import USE

from semantic.entrypoints import server_note
from semantic.entrypoints.server_note import ServerNote

Run = Callable[..., tuple[int, str, str]]
TOLD = asdict(USE) | {"pressure": USE.pressure.value}


@pytest.fixture
def store(tmp_path: Path) -> str:
    (tmp_path / "kv").mkdir()
    return str(tmp_path / "kv")


def test_the_server_that_has_the_store_is_asked(run: Run, store: str) -> None:
    with server_of(store, 200, TOLD) as asked:
        code, out, err = run("memory", "--store", store)
    assert (code, err) == (0, "")
    assert asked.requests == [("GET", "/admin/memory", "Bearer a token")]
    assert out.splitlines() == [
        "pressure:   moderate",
        "total:      1.0 KB",
        "held:       500 B (400 B running, 50 B being read)",
        "cached:     300 B",
        "free:       200 B",
        "in work:    3 (batches: 2)",
        "waiting:    1",
        "preempted:  4 since the start",
    ]


def test_programs_get_what_the_server_says(run: Run, store: str) -> None:
    with server_of(store, 200, TOLD):
        code, out, _ = run("memory", "--store", store, "--json")
    assert (code, json.loads(out)) == (0, TOLD)


@pytest.mark.parametrize("note", [None, ServerNote("http://127.0.0.1:1", "of one that is gone")])
def test_without_a_server_it_fails_in_one_line(
    run: Run, store: str, note: ServerNote | None
) -> None:
    if note:
        server_note.write(Path(store), note)
    expected = f"error: no server has the store {store}; start one with: semantic serve\n"
    assert run("memory", "--store", store) == (1, "", expected)


def test_a_refusal_is_told_in_the_servers_words(run: Run, store: str) -> None:
    with server_of(store, 401, {"error": {"message": "not now", "code": None}}):
        assert run("memory", "--store", store) == (1, "", "error: not now\n")

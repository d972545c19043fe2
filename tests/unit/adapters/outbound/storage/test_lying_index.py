"""Rows and headers that say what is not so."""

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.fakes.blocks import NAMESPACE, make_part
from tests.fakes.fixed_clock import FixedClock
from tests.fakes.mutants import signed
from tests.fakes.recorded_telemetry import RecordedTelemetry

from semantic.adapters.outbound.storage.indexed_blocks import IndexedBlocks
from semantic.domain.block import PartId, PartKind
from semantic.domain.errors import CacheCorruptionError, IncompatibleCacheError

FIRST = make_part(tuple(range(256)))
SECOND = make_part(tuple(range(256, 512)), parent=FIRST.header)
TAIL = make_part((7, 8), parent=SECOND.header, kind=PartKind.TAIL)
ALL = (FIRST, SECOND, TAIL)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    store = IndexedBlocks(tmp_path, RecordedTelemetry(), FixedClock())
    store.put(*ALL)
    store.close()
    return tmp_path


@pytest.fixture
def telemetry() -> RecordedTelemetry:
    return RecordedTelemetry()


@pytest.fixture
def store(root: Path, telemetry: RecordedTelemetry) -> Iterator[IndexedBlocks]:
    opened = IndexedBlocks(root, telemetry, FixedClock())
    yield opened
    opened.close()


def tell(root: Path, sql: str, *values: object) -> None:
    connection = sqlite3.connect(root / "index.db", isolation_level=None)
    connection.execute(sql, values)
    connection.close()


@pytest.mark.parametrize(
    "lie",
    [
        "UPDATE part SET kind = 'fuml' WHERE kind = 'tail'",
        "UPDATE part SET key = x'00' WHERE kind = 'tail'",
        "UPDATE part SET num_tokens = 'many' WHERE kind = 'tail'",
        "UPDATE part SET start = 3 WHERE kind = 'tail'",
        "UPDATE part SET parent = key WHERE kind = 'tail'",
        # A circle: the first block would follow the last.
        "UPDATE part SET parent = (SELECT key FROM part WHERE kind = 'tail') WHERE start = 0",
        "UPDATE part SET parent = (SELECT key FROM part WHERE start = 256) WHERE start = 0",
        "UPDATE tokens SET tokens = substr(tokens, 1, 7) WHERE length(tokens) = 8",
        "DELETE FROM tokens",
        "DELETE FROM namespace",
        "DROP TABLE tokens",
    ],
)
def test_an_index_with_rows_that_cannot_be_is_made_anew(
    root: Path, telemetry: RecordedTelemetry, lie: str
) -> None:
    tell(root, lie)
    store = IndexedBlocks(root, telemetry, FixedClock())
    assert telemetry.names() == ["index_made"]
    assert list(store.headers(NAMESPACE)) == [part.header for part in ALL]
    assert [store.get(NAMESPACE, part.header.id) for part in ALL] == list(ALL)
    store.close()


@pytest.mark.parametrize(
    "lie",
    [
        "UPDATE part SET parent = randomblob(32) WHERE kind = 'tail'",
        "UPDATE tokens SET tokens = x'0100000002000000' WHERE length(tokens) = 8",
    ],
)
def test_a_row_that_differs_from_its_file_is_not_believed(
    root: Path, store: IndexedBlocks, lie: str
) -> None:
    tell(root, lie)
    name = TAIL.header.id
    with pytest.raises(IncompatibleCacheError):
        store.get(NAMESPACE, name)
    assert store.get(NAMESPACE, name) is None
    store.put(TAIL)
    assert store.get(NAMESPACE, name) == TAIL


def test_what_follows_nothing_goes_with_the_sweep(root: Path, store: IndexedBlocks) -> None:
    tell(root, "UPDATE part SET parent = randomblob(32) WHERE start = 256")
    gone = [part for step in store.sweep() for part in step]
    assert gone == [SECOND.header.id, TAIL.header.id]
    assert {path.name for path in root.rglob("*.st")} == {f"{FIRST.header.key}.full.st"}


def test_a_file_without_a_row_is_a_miss(root: Path, store: IndexedBlocks) -> None:
    tell(root, "DELETE FROM part WHERE kind = 'tail'")
    assert store.get(NAMESPACE, TAIL.header.id) is None


@pytest.mark.parametrize("field", ["start", "parent", "tokens"])
def test_a_header_that_was_signed_anew_is_not_believed(
    root: Path, store: IndexedBlocks, field: str
) -> None:
    other = {"start": "256", "parent": "0" * 64, "tokens": "01000000" * 256}[field]

    def change(document: dict[str, object]) -> dict[str, object]:
        metadata = document["__metadata__"]
        assert isinstance(metadata, dict)
        return {**document, "__metadata__": {**metadata, field: other}}

    (path,) = root.rglob(f"{FIRST.header.key}.*")
    path.write_bytes(signed(path.read_bytes(), change))
    with pytest.raises(IncompatibleCacheError):
        store.get(NAMESPACE, FIRST.header.id)
    assert store.get(NAMESPACE, FIRST.header.id) is None


def test_keys_are_not_taken_for_values(root: Path, store: IndexedBlocks) -> None:
    def exchange(document: dict[str, object]) -> dict[str, object]:
        text = json.dumps(document).replace("keys.0", "x").replace("values.0", "keys.0")
        found: dict[str, object] = json.loads(text.replace('"x"', '"values.0"'))
        return found

    (path,) = root.rglob(f"{FIRST.header.key}.*")
    path.write_bytes(signed(path.read_bytes(), exchange))
    with pytest.raises(CacheCorruptionError):
        store.get(NAMESPACE, FIRST.header.id)


def test_what_is_put_again_mends_a_row(root: Path, store: IndexedBlocks) -> None:
    tell(root, "UPDATE part SET parent = randomblob(32), num_tokens = 3 WHERE start = 256")
    store.put(SECOND)
    assert store.get(NAMESPACE, SECOND.header.id) == SECOND
    state = replace(SECOND.header, kind=PartKind.STATE)
    assert store.get(NAMESPACE, PartId(state.key, state.kind)) is None

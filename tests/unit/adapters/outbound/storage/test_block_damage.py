"""Damage of every kind is found, or it changed nothing."""

from pathlib import Path

from tests.fakes.blocks import NAMESPACE, make_block
from tests.fakes.mutants import mutants
from tests.fakes.recorded_telemetry import RecordedTelemetry

from semantic.adapters.outbound.storage.block_files import BlockFiles
from semantic.adapters.outbound.storage.block_format import encode
from semantic.domain.errors import CacheCorruptionError, IncompatibleCacheError

TOKENS = tuple(range(256))
BLOCK = make_block(TOKENS, seed=1)
OTHER = make_block(TOKENS[::-1], seed=2)
MUTANTS_OF_EACH_KIND = 45


def test_no_mutant_of_a_file_is_taken_for_the_block(tmp_path: Path) -> None:
    store = BlockFiles(tmp_path, RecordedTelemetry())
    key = BLOCK.header.key
    store.put(BLOCK)
    (path,) = tmp_path.rglob(f"{key}.*")
    data = path.read_bytes()
    other = b"".join(encode(OTHER))
    assert len(data) == len(other)
    found = 0
    for kind, mutant in mutants(data, other, each=MUTANTS_OF_EACH_KIND, seed=20261123):
        path.write_bytes(mutant)
        listed = list(store.headers(NAMESPACE))
        assert listed in ([], [BLOCK.header]), kind
        try:
            assert store.get(NAMESPACE, key) == BLOCK, kind
            assert mutant == data, kind
        except (CacheCorruptionError, IncompatibleCacheError):
            assert mutant != data, kind
            assert store.get(NAMESPACE, key) is None, kind
            found += 1
    assert found > 6 * MUTANTS_OF_EACH_KIND

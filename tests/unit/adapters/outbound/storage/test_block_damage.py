"""Damage of every kind is found, or it changed nothing."""

from pathlib import Path

import pytest
from tests.fakes.blocks import NAMESPACE, make_part, without_tensors
from tests.fakes.mutants import mutants
from tests.fakes.recorded_telemetry import RecordedTelemetry

from semantic.adapters.outbound.storage.block_files import BlockFiles
from semantic.adapters.outbound.storage.block_format import encode
from semantic.domain.block import PartKind, StoredPart
from semantic.domain.errors import CacheCorruptionError, IncompatibleCacheError

TOKENS = tuple(range(256))
PARTS = {
    kind.value: (make_part(TOKENS, kind=kind, seed=1), make_part(TOKENS[::-1], kind=kind, seed=2))
    for kind in PartKind
}
PARTS["full without tensors"] = (
    without_tensors(PARTS["full"][0]),
    without_tensors(PARTS["full"][1]),
)
MUTANTS_OF_EACH_KIND = 45


@pytest.mark.parametrize(("part", "another"), PARTS.values(), ids=PARTS)
def test_no_mutant_of_a_file_is_taken_for_the_part(
    tmp_path: Path, part: StoredPart, another: StoredPart
) -> None:
    store = BlockFiles(tmp_path, RecordedTelemetry())
    name = part.header.id
    store.put(part)
    (path,) = tmp_path.rglob(f"{name.key}.*")
    data = path.read_bytes()
    other = b"".join(encode(another))
    assert len(data) == len(other)
    found = 0
    for kind, mutant in mutants(data, other, each=MUTANTS_OF_EACH_KIND, seed=20261123):
        path.write_bytes(mutant)
        listed = list(store.headers(NAMESPACE))
        assert listed in ([], [part.header]), kind
        try:
            assert store.get(NAMESPACE, name) == part, kind
            assert mutant == data, kind
        except (CacheCorruptionError, IncompatibleCacheError):
            assert mutant != data, kind
            assert store.get(NAMESPACE, name) is None, kind
            found += 1
    assert found > 6 * MUTANTS_OF_EACH_KIND

"""A restart with many blocks; `make soak` does the same with 100,000."""

from pathlib import Path

from bench.restart import BLOCKS, BYTES_A_BLOCK, SECONDS, fill, measure

_SIZE = 4000


def test_a_restart_takes_its_share_of_the_time_and_memory_it_may(tmp_path: Path) -> None:
    fill(tmp_path, _SIZE)
    found = [measure(tmp_path, _SIZE) for _ in range(3)]
    assert min(one.seconds for one in found) <= SECONDS * _SIZE / BLOCKS
    assert found[0].bytes_a_block <= BYTES_A_BLOCK

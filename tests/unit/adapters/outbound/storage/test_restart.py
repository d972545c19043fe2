"""A restart with many blocks; `make soak` judges it with 100,000, in seconds."""

from pathlib import Path

from bench.restart import BYTES_A_BLOCK, fill, measure

_FEW, _MANY = 1000, 4000


def test_a_restart_takes_no_more_for_each_block_the_more_there_are(tmp_path: Path) -> None:
    seconds: dict[int, float] = {}
    for size in (_FEW, _MANY):
        root = tmp_path / str(size)
        fill(root, size)
        found = [measure(root, size) for _ in range(3)]
        assert found[0].bytes_a_block <= BYTES_A_BLOCK
        seconds[size] = min(one.seconds for one in found)
    # With the square of their number it would be 16 times as much.
    assert seconds[_MANY] < 9 * seconds[_FEW]

from pathlib import Path

from bench.write_amplification import LIMIT, measure


def test_a_conversation_writes_little_more_than_its_kv(tmp_path: Path) -> None:
    assert 1.0 < measure(tmp_path, turns=8) <= LIMIT

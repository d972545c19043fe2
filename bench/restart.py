"""How long a store takes to be ready after a restart, and what its index takes of memory.

Fills an index as so many blocks of long conversations would, opens it anew, and prints: `make soak`
does so for 100,000 blocks and fails beyond 2 s or 1 KB a block. The files themselves are not made:
opening does not look at them.
"""

import argparse
import gc
import itertools
import random
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.fakes.blocks import MINE, NAMESPACE, SECRET
from tests.fakes.recorded_telemetry import RecordedTelemetry

from semantic.adapters.outbound.storage.block_index import IndexedPart
from semantic.adapters.outbound.storage.indexed_blocks import IndexedBlocks
from semantic.adapters.outbound.system.system_clock import SystemClock
from semantic.domain.block import BlockHeader, PartKind
from semantic.domain.block_hash import block_key, root_key
from semantic.domain.cache_spec import BLOCK_SIZE
from semantic.domain.prefix_index import PrefixIndex

BLOCKS = 100_000
SECONDS = 2.0
BYTES_A_BLOCK = 1024
_CONVERSATION = 50
"""Blocks in one conversation."""
_AT_ONCE = 5000


@dataclass(frozen=True, slots=True)
class Restart:
    """What was measured: seconds until prompts can be matched, Python's memory then."""

    seconds: float
    bytes_a_block: float


def fill(root: Path, blocks: int) -> None:
    """Make a store whose index knows so many blocks."""
    store = _opened(root)
    rows = _rows(blocks)
    while batch := list(itertools.islice(rows, _AT_ONCE)):
        store.index.add(batch, 0.0, 0)
    store.close()


def measure(root: Path, blocks: int) -> Restart:
    """Open the store twice: once for the time, once for the memory, whose tracing takes time."""
    started = time.perf_counter()
    store, index = _start(root)
    seconds = time.perf_counter() - started
    store.close()
    del index
    gc.collect()
    tracemalloc.start()
    store, index = _start(root)
    gc.collect()
    nbytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    store.close()
    if len(index) != blocks:
        raise RuntimeError(f"{len(index)} blocks are known of {blocks}")
    return Restart(seconds, nbytes / blocks)


def _start(root: Path) -> tuple[IndexedBlocks, PrefixIndex]:
    store = _opened(root)
    index = PrefixIndex(
        root_key(NAMESPACE, SECRET), BLOCK_SIZE, fetch=partial(store.tokens, NAMESPACE)
    )
    index.learn(NAMESPACE, store.outlines(NAMESPACE))
    return store, index


def _opened(root: Path) -> IndexedBlocks:
    return IndexedBlocks(root, RecordedTelemetry(), SystemClock())


def _rows(blocks: int) -> Iterator[IndexedPart]:
    numbers = random.Random(1)  # noqa: S311 - reproducible, no secrets
    parent, start = root_key(NAMESPACE, SECRET), 0
    for number in range(blocks):
        if number % _CONVERSATION == 0:
            parent, start = root_key(NAMESPACE, SECRET), 0
        tokens = tuple(numbers.choices(range(150_000), k=BLOCK_SIZE))
        key = block_key(parent, tokens, b"" if start else MINE.salt)
        header = BlockHeader(key, parent, NAMESPACE, PartKind.FULL, start, tokens, MINE.tenant)
        yield IndexedPart(header, 1 << 20, 0.0)
        parent, start = key, start + BLOCK_SIZE


def main() -> int:
    """Measure, print and judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, default=BLOCKS)
    blocks = parser.parse_args().blocks
    with tempfile.TemporaryDirectory() as folder:
        fill(Path(folder), blocks)
        found = measure(Path(folder), blocks)
    print(f"restart with {blocks} blocks: {found.seconds:.2f} s (at most {SECONDS} s)")
    print(f"memory: {found.bytes_a_block:.0f} bytes a block (at most {BYTES_A_BLOCK})")
    return int(found.seconds > SECONDS or found.bytes_a_block > BYTES_A_BLOCK)


if __name__ == "__main__":
    sys.exit(main())

"""How fast what is remembered comes back from the disk, beside what the disk can do.

Writes 4,096 tokens of a cache of Llama 3.1 8B's shape: 16 blocks of 33.5 MB, 537 MB in all. They
are restored through the store and its reading threads, every byte verified, and read in plain
large pieces with as many threads, turn about; before each the system forgets the files' pages.
Prints medians, and fails below 60 % of the plain rate in the best rounds. Where the disk is
virtual, the machine beneath may still have them in memory: the ratio then is one to a faster disk.
Restoring fills fresh memory and computes digests, so that it needs a processor that is not busy.
"""

import argparse
import os
import queue
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.fakes.blocks import MINE, NAMESPACE, SECRET
from tests.fakes.recorded_telemetry import RecordedTelemetry

from semantic.adapters.outbound.storage.indexed_blocks import IndexedBlocks
from semantic.adapters.outbound.system.system_clock import SystemClock
from semantic.application.block_reader import BlockReader
from semantic.domain.block import BlockHeader, PartId, PartKind, StoredPart, Tensor
from semantic.domain.block_hash import block_key, root_key
from semantic.domain.cache_spec import BLOCK_SIZE

TOKENS = 4096
SHARE = 0.6
ROUNDS = 9
THREADS = 4
_LAYERS, _HEADS, _HEAD_DIM, _ITEM = 32, 8, 128, 2
"""Llama 3.1 8B in bfloat16."""
_PIECE = 8 << 20
"""Bytes of one plain read."""


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """Bytes a second: medians over the rounds. `ratio` is that of the best rounds.

    What else runs on a machine only ever slows a round down, and one that computes more than the
    other, so that the best ones tell most of the two.
    """

    restored: float
    plain: float
    ratio: float
    of_medians: float


@dataclass(frozen=True, slots=True)
class _Bench:
    """`threads` as the server has them: no more than there are cores."""

    root: Path
    parts: dict[PartId, int]
    threads: int

    @property
    def nbytes(self) -> int:
        return sum(self.parts.values())

    @property
    def files(self) -> list[Path]:
        return sorted((self.root / "blk").rglob("*.st"))

    def restore(self) -> float:
        """Seconds until all parts have come, whole."""
        telemetry, clock = RecordedTelemetry(), SystemClock()
        store = IndexedBlocks(self.root, telemetry, clock)
        reader = BlockReader(store, self.threads, clock, telemetry)
        came: queue.SimpleQueue[bool] = queue.SimpleQueue()
        started = time.perf_counter()
        # As the engine does, which copies a part into its own memory as soon as that has come.
        reader.read(NAMESPACE, self.parts, lambda _, found: came.put(found is not None))
        whole = [came.get() for _ in self.parts]
        seconds = time.perf_counter() - started
        reader.close()
        store.close()
        if not all(whole):
            raise RuntimeError(f"not all parts could be read: {telemetry.events}")
        return seconds

    def read_plainly(self) -> float:
        """Seconds to read the same files, in large pieces, into memory that is there already."""
        buffers = threading.local()

        def read(path: Path) -> None:
            if not hasattr(buffers, "piece"):
                buffers.piece = bytearray(_PIECE)
            descriptor = os.open(path, os.O_RDONLY)
            offset = 0
            while count := os.preadv(descriptor, [buffers.piece], offset):
                offset += count
            os.close(descriptor)

        with ThreadPoolExecutor(self.threads) as pool:
            list(pool.map(lambda _: None, range(self.threads)))
            started = time.perf_counter()
            list(pool.map(read, self.files))
            return time.perf_counter() - started

    def drop_cache(self) -> None:
        """Have the system forget the files' pages, which are all on the disk."""
        for path in self.files:
            descriptor = os.open(path, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def measure(root: Path, *, tokens: int = TOKENS, rounds: int = ROUNDS) -> Bandwidth:
    """Fill a store and read it in both ways; each round begins with the other one."""
    bench = _Bench(root, _filled(root, tokens), min(THREADS, os.cpu_count() or 1))
    restored: list[float] = []
    plain: list[float] = []
    for number in range(rounds):
        order = [(bench.restore, restored), (bench.read_plainly, plain)]
        for way, seconds in order if number % 2 else reversed(order):
            bench.drop_cache()
            seconds.append(way())
    medians = statistics.median(restored), statistics.median(plain)
    return Bandwidth(
        bench.nbytes / medians[0],
        bench.nbytes / medians[1],
        min(plain) / min(restored),
        medians[1] / medians[0],
    )


def _filled(root: Path, tokens: int) -> dict[PartId, int]:
    """A store of so many tokens; its parts, and the bytes of each."""
    store = IndexedBlocks(root, RecordedTelemetry(), SystemClock())
    parts: dict[PartId, int] = {}
    for part in _blocks(tokens // BLOCK_SIZE):
        store.put(part)
        parts[part.header.id] = part.nbytes
    store.close()
    return parts


def _blocks(count: int) -> Iterator[StoredPart]:
    numbers = random.Random(1)  # noqa: S311 - reproducible, no secrets
    shape = (_LAYERS, 1, _HEADS, BLOCK_SIZE, _HEAD_DIM)
    nbytes = _LAYERS * _HEADS * BLOCK_SIZE * _HEAD_DIM * _ITEM
    parent, salt = root_key(NAMESPACE, SECRET), MINE.salt
    for number in range(count):
        held = tuple(numbers.choices(range(100_000), k=BLOCK_SIZE))
        key, salt = block_key(parent, held, salt), b""
        start = number * BLOCK_SIZE
        header = BlockHeader(key, parent, NAMESPACE, PartKind.FULL, start, held, MINE.tenant)
        tensors = (
            Tensor(name, "BF16", shape, numbers.randbytes(nbytes))
            for name in ("keys.0", "values.0")
        )
        yield StoredPart(header, tuple(tensors))
        parent = key


def main() -> int:
    """Measure, print and judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=TOKENS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--folder", type=Path, help="on the disk that is to be measured")
    options = parser.parse_args()
    if not hasattr(os, "posix_fadvise"):
        print("this system's cache cannot be dropped: nothing is measured")
        return 0
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        found = measure(Path(folder), tokens=options.tokens, rounds=options.rounds)
    print(f"restored and verified: {found.restored / 1e6:.0f} MB/s")
    print(f"plain reads, the cache dropped as well: {found.plain / 1e6:.0f} MB/s")
    print(f"that is {found.of_medians:.0%}, in medians of {options.rounds} rounds")
    print(f"{found.ratio:.0%} of the disk's bandwidth in the best of them (at least {SHARE:.0%})")
    return int(found.ratio < SHARE)


if __name__ == "__main__":
    sys.exit(main())

"""Holds a real store to its cap under load, from above it too, and to its memory over restarts.

After everything that is written or deleted all files are measured, as `du` does: together they may
exceed the cap by one block at most. A store that is opened with a cap below what it takes must come
below it. What prompts find in the cache must be the same before and after a restart. Exits with 1
otherwise.
"""

import argparse
import random
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.fakes.disk_engine import DiskEngine, on_disk, quick_folder
from tests.fakes.scripted_memory import FULL_LAYER, sliding_layer, spec_of

from semantic.domain.block import PartKind
from semantic.domain.ids import DEFAULT_TENANT, TokenId

TURNS = 400
_SPEC = spec_of(*[FULL_LAYER] * 24, *[sliding_layer(64)] * 2)
_CAP = 6 << 20
_HEADER = 8192
_ONE_BLOCK = _SPEC.nbytes(PartKind.FULL) + _SPEC.nbytes(PartKind.SLIDING) + 2 * _HEADER
_PATIENCE_S = 30.0

Tokens = tuple[TokenId, ...]


@dataclass
class Totals:
    """Bytes above the cap at most, under load and when the store was above it at first."""

    over_cap: int = 0
    evicted: int = 0
    shrunk_to: int = 0
    hits_before: list[int] = field(default_factory=list)
    hits_after: list[int] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def load(engine: DiskEngine, turns: int, seed: int) -> list[Tokens]:
    """Conversations of several turns, whose turns mix; their last prompts."""
    numbers = random.Random(seed)  # noqa: S311 - reproducible, no secrets
    system = tuple(numbers.choices(range(95), k=70))
    talks: list[Tokens] = []
    for _ in range(turns):
        if not talks or numbers.random() < 1 / 2:
            talks.append((*system, *numbers.choices(range(95), k=numbers.randrange(20, 400))))
        else:
            talks.append(talks.pop(numbers.randrange(len(talks))))
        talks[-1] += tuple(numbers.choices(range(95), k=numbers.randrange(1, 200)))
        asked = engine.ask(talks[-1])
        if not asked.right:
            raise RuntimeError("a wrong answer")
        talks[-1] += asked.tokens
    return talks


def under_load(root: Path, turns: int, totals: Totals) -> None:
    """A store at its cap: never above it by more than a block, and the same after a restart."""
    with DiskEngine(root, _SPEC, cap=_CAP).running() as engine:
        engine.blocks.measuring = True
        talks = load(engine, turns, seed=1)
        totals.over_cap = engine.blocks.most - _CAP
        totals.evicted = engine.telemetry.names().count("store_shrunk")
        before = [_matched(engine, talk) for talk in talks]
    with DiskEngine(root, _SPEC, cap=_CAP).running() as engine:
        after = [_matched(engine, talk) for talk in talks]
    totals.hits_before, totals.hits_after = before, after
    if before != after:
        totals.wrong.append(f"hits {before} before a restart, {after} after")
    if totals.over_cap > _ONE_BLOCK:
        totals.wrong.append(f"{totals.over_cap} bytes above the cap")
    if not totals.evicted:
        totals.wrong.append("nothing was ever evicted")


def from_above(root: Path, turns: int, totals: Totals) -> None:
    """A store that takes more than its cap when it is opened."""
    with DiskEngine(root, _SPEC).running() as engine:
        load(engine, turns, seed=2)
    start = on_disk(root)
    cap = start // 2
    with DiskEngine(root, _SPEC, cap=cap).running() as engine:
        engine.blocks.measuring = True
        engine.ask(tuple(range(60)))  # it does not wait until there is nothing to do
        end = time.monotonic() + _PATIENCE_S
        while on_disk(root) > cap and time.monotonic() < end:
            engine.catch_up()
        totals.shrunk_to = on_disk(root)
        if engine.blocks.most > start + _ONE_BLOCK:
            totals.wrong.append(f"from {start} it grew to {engine.blocks.most}, the cap is {cap}")
    if totals.shrunk_to > cap:
        totals.wrong.append(f"{totals.shrunk_to} bytes are left, the cap is {cap}")


def _matched(engine: DiskEngine, talk: Tokens) -> int:
    """How much of a conversation is known."""
    return sum(use.length for use in engine.engine.cache.match((*talk, 94), DEFAULT_TENANT))


def run(turns: int) -> Totals:
    """All of it."""
    totals = Totals()
    with quick_folder() as folder:
        under_load(folder / "load", turns, totals)
        from_above(folder / "above", turns // 4, totals)
    return totals


def main() -> int:
    """Load, print and judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=TURNS)
    found = run(parser.parse_args().turns)
    print(
        f"cap of {_CAP} bytes: at most {found.over_cap} above it (one block is {_ONE_BLOCK}), "
        f"{found.evicted} evictions"
    )
    print(
        f"restart: {sum(found.hits_before)} tokens of {len(found.hits_before)} conversations were "
        f"known before, {sum(found.hits_after)} after"
    )
    for one in found.wrong:
        print(f"  {one}")
    return int(bool(found.wrong))


if __name__ == "__main__":
    sys.exit(main())

"""Holds a real store to its cap under load, from above it too, and to its memory over restarts.

After everything that is written or deleted all files are measured, as `du` does: together they may
exceed the cap by one block at most. A store that is opened with a cap below what it takes must come
below it. Agents' records that grow are refused once they alone fill the cap, and no block goes for
them in vain. What prompts find in the cache must be the same before and after a restart. Exits with
1 otherwise.
"""

import argparse
import queue
import random
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.fakes.disk_engine import DiskEngine, on_disk, quick_folder
from tests.fakes.scripted_memory import FULL_LAYER, sliding_layer, spec_of

from semantic.domain.agent import AgentId, AgentRecord, Branch, Segment
from semantic.domain.block import PartKind
from semantic.domain.ids import DEFAULT_TENANT, Namespace, TokenId

TURNS = 400
_SPEC = spec_of(*[FULL_LAYER] * 24, *[sliding_layer(64)] * 2)
_CAP = 6 << 20
_HEADER = 8192
_ONE_BLOCK = _SPEC.nbytes(PartKind.FULL) + _SPEC.nbytes(PartKind.SLIDING) + 2 * _HEADER
_PATIENCE_S = 30.0
_AGENTS = 12
_LEAST_RECORDS = 110
"""Turns until records alone fill the cap."""
_GROWTH = 6000
"""Tokens that a record grows by with each of its turns: some 60 KB."""

Tokens = tuple[TokenId, ...]


@dataclass
class Totals:
    """Bytes above the cap at most, under load and when the store was above it at first."""

    over_cap: int = 0
    evicted: int = 0
    shrunk_to: int = 0
    records_saved: int = 0
    records_refused: int = 0
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


def with_records(root: Path, turns: int, totals: Totals) -> None:
    """Agents whose records grow, beside blocks, until records alone fill the cap."""
    with DiskEngine(root, _SPEC, cap=_CAP).running() as engine:
        engine.blocks.measuring = True
        load(engine, turns // 4, seed=3)
        records = [_empty(engine, number) for number in range(_AGENTS)]
        refused = False
        for turn in range(turns):
            record = records[turn % _AGENTS] = _grown(records[turn % _AGENTS])
            blocks = _count(engine)
            if _saved(engine, record):
                totals.records_saved += 1
            else:
                totals.records_refused += 1
                refused = refused or _count(engine) < blocks
            totals.over_cap = max(totals.over_cap, on_disk(root) - _CAP)
            if turn % 4 == 0:
                load(engine, 1, seed=turn)
        totals.over_cap = max(totals.over_cap, engine.blocks.most - _CAP)
        told = engine.telemetry.names("warning").count("store_full")
    if refused:
        totals.wrong.append("blocks went for a record that was not saved")
    if totals.records_refused and not 0 < told < totals.records_refused:
        totals.wrong.append(f"{totals.records_refused} records refused, told {told} times")
    if totals.over_cap > _ONE_BLOCK:
        totals.wrong.append(f"with records {totals.over_cap} bytes above the cap")


def _count(engine: DiskEngine) -> int:
    """How many parts are kept."""
    return len(list(engine.blocks.outlines(engine.engine.executor.namespace)))


def _empty(engine: DiskEngine, number: int) -> AgentRecord:
    return AgentRecord(f"agent {number}", engine.engine.executor.namespace, (Branch(()),), 0.0)


def _grown(record: AgentRecord) -> AgentRecord:
    """A record after one more turn."""
    (branch,) = record.branches
    said = Segment("word " * _GROWTH, tuple(range(10_000, 10_000 + _GROWTH)))
    return replace(record, branches=(Branch((*branch.segments, said)),))


def _saved(engine: DiskEngine, record: AgentRecord) -> bool:
    outcome: queue.SimpleQueue[bool] = queue.SimpleQueue()
    agent = AgentId.parse(record.name, field="agent").within(Namespace(record.namespace))
    engine.engine.writes.save(agent, record, outcome.put)
    return outcome.get(timeout=_PATIENCE_S)


def _matched(engine: DiskEngine, talk: Tokens) -> int:
    """How much of a conversation is known."""
    return sum(use.length for use in engine.engine.cache.match((*talk, 94), DEFAULT_TENANT))


def run(turns: int) -> Totals:
    """All of it."""
    totals = Totals()
    with quick_folder() as folder:
        under_load(folder / "load", turns, totals)
        from_above(folder / "above", turns // 4, totals)
        with_records(folder / "records", max(turns, _LEAST_RECORDS), totals)
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
    print(f"records: {found.records_saved} saved, {found.records_refused} refused")
    print(
        f"restart: {sum(found.hits_before)} tokens of {len(found.hits_before)} conversations were "
        f"known before, {sum(found.hits_after)} after"
    )
    for one in found.wrong:
        print(f"  {one}")
    return int(bool(found.wrong))


if __name__ == "__main__":
    sys.exit(main())

"""What a conversation writes to the store, in proportion to the KV that it adds.

A model with full attention answers in turns of 200 new tokens. Each turn writes the blocks that
became full, and the last, partial one anew: 1 + 128/200 times the turn's KV on average, headers
besides. Measured on the real store as bytes of all files written; fails beyond 1.7.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from tests.fakes.blocks import SECRET
from tests.fakes.memory_agent_store import MemoryAgentStore
from tests.fakes.recorded_telemetry import RecordedTelemetry
from tests.fakes.scripted_executor import ScriptedExecutor
from tests.fakes.scripted_memory import FULL_LAYER, spec_of
from tests.fakes.small_engine import GREEDY

from semantic.adapters.outbound.storage.disk_space import DiskSpace
from semantic.adapters.outbound.storage.indexed_blocks import IndexedBlocks
from semantic.adapters.outbound.system.system_clock import SystemClock
from semantic.application.chain import Chain
from semantic.application.kv_cache import CacheLimits, KvCache
from semantic.application.write_behind import WriteBehind
from semantic.domain.block import PartKind
from semantic.domain.cache_spec import BLOCK_SIZE
from semantic.domain.ids import SequenceId, TokenId
from semantic.domain.sequence import Sequence
from semantic.domain.step_plan import PrefillChunk, StepPlan
from semantic.ports.model_executor import AttachedBlock

TURNS = 32
NEW_TOKENS = 200
LIMIT = 1.7
_LAYERS = 64
"""Enough that a block's KV is large beside its header, if far from a real model's."""
_PATIENCE_S = 60.0


def measure(root: Path, turns: int) -> float:
    """Bytes written over KV bytes added, in one conversation of so many turns."""
    telemetry, clock = RecordedTelemetry(), SystemClock()
    spec = spec_of(*[FULL_LAYER] * _LAYERS)
    executor = ScriptedExecutor(spec, max_context=turns * NEW_TOKENS + 1)
    blocks = IndexedBlocks(root, telemetry, clock)
    # One turn after the other is written before the next: nothing is spared by being late.
    history: tuple[TokenId, ...] = ()
    for turn in range(turns):
        writes = WriteBehind(blocks, MemoryAgentStore(), 1 << 40, telemetry)
        cache = KvCache(executor, writes, CacheLimits(1 << 40, 1 << 20, 8), telemetry, SECRET)
        cache.discover(blocks)
        history = _turn(cache, executor, blocks, turn, history)
        if not writes.close(_PATIENCE_S):
            raise TimeoutError("the store is too slow")
    written = DiskSpace(root, blocks, clock).written_today()
    blocks.close()
    return written / (len(history) * spec.nbytes(PartKind.FULL) / BLOCK_SIZE)


def _turn(
    cache: KvCache,
    executor: ScriptedExecutor,
    blocks: IndexedBlocks,
    turn: int,
    history: tuple[TokenId, ...],
) -> tuple[TokenId, ...]:
    """Go on from what is kept, by 200 tokens; the whole conversation."""
    new = tuple((turn * 31 + number * 7) % 95 for number in range(NEW_TOKENS))
    tokens = (*history, *new)
    sequence = Sequence(SequenceId(turn), (*tokens, 94), GREEDY, 1)
    sequence.marks = cache.marks(sequence)
    chain, uses = Chain(), cache.match(sequence.prompt, sequence.tenant)
    held = {
        part: handle
        for use in uses
        for part in use.ids
        if (found := blocks.get(executor.namespace, part))
        and (handle := cache.adopt(part, found.header.tokens, found))
    }
    position = sum(use.length for use in uses)
    attached = [AttachedBlock(held[use.ids[0]], use.length) for use in uses]
    executor.attach(sequence.id, tokens[:position], attached, GREEDY)
    cache.restored(chain, uses, held)
    sequence.restored(position)
    for start in range(position, len(tokens), BLOCK_SIZE):
        chunk = tokens[start : start + BLOCK_SIZE]
        executor.run(StepPlan((), PrefillChunk(sequence.id, chunk, last=False)))
        sequence.prefilled(len(chunk))
        cache.capture(sequence, chain)
    cache.capture_end(sequence, chain)
    executor.release(sequence.id)
    if position != len(history):
        raise RuntimeError(f"{position} of {len(history)} tokens were remembered")
    return tokens


def main() -> int:
    """Measure, print and judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=TURNS)
    turns = parser.parse_args().turns
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), turns)
    print(f"{turns} turns of {NEW_TOKENS} tokens: {found:.2f} bytes written a byte of KV")
    print(f"at most {LIMIT}")
    return int(found > LIMIT)


if __name__ == "__main__":
    sys.exit(main())

"""What becomes of the KV of requests that name no agent."""

import random

import pytest
from tests.fakes.scripted_executor import NAMESPACE, SPECS, UNIFORM, ScriptedExecutor
from tests.fakes.small_engine import Listener, SmallEngine, right_answer
from tests.fakes.work_bench import Bench, Tokens
from tests.unit.application.test_engine_work import LONG

from semantic.application.sightings import Sightings
from semantic.domain.block import PartKind
from semantic.domain.ids import BlockKey

BLOCK_BYTES = UNIFORM.nbytes(PartKind.FULL)


def bench_of(model: str = "uniform", hot_bytes: int = 1 << 20) -> Bench:
    executor = ScriptedExecutor(SPECS[model])
    return Bench(SmallEngine(executor=executor, hot_bytes=hot_bytes, state_interval=256))


def ask(bench: Bench, prompt: Tokens, *, named: bool = False, max_tokens: int = 4) -> Listener:
    """An answer to somebody or nobody; it is right."""
    job, listener = bench.accept(prompt, max_tokens)
    job.chain.named = named
    bench.settle()
    assert listener.answer() == right_answer(prompt, max_tokens)
    return listener


def puts(bench: Bench) -> list[object]:
    """What has been written, once it is."""
    settle(bench)
    return [part for action, part in bench.engine.blocks.journal.entries if action == "put"]


def settle(bench: Bench) -> None:
    while bench.engine.writes.all_pending():
        pass


def assert_no_holes(bench: Bench) -> None:
    settle(bench)
    headers = list(bench.engine.blocks.headers(NAMESPACE))
    blocks = {header.key for header in headers if header.kind.begins}
    for header in headers:
        assert header.key in blocks
        assert not header.start or header.parent in blocks


def test_a_thousand_prompts_that_come_once_write_nothing() -> None:
    bench = bench_of(hot_bytes=20 * BLOCK_BYTES)
    for number in range(1000):
        length = 30 if number % 10 else 256
        ask(bench, (number % 95, number // 95, *LONG[:length]), max_tokens=1)
    assert puts(bench) == []
    bench.close()


def test_what_came_once_is_in_memory() -> None:
    bench = bench_of()
    ask(bench, LONG)
    assert ask(bench, LONG).cached == 699
    settle(bench)
    assert bench.names() == []
    bench.close()


@pytest.mark.parametrize("model", SPECS)
@pytest.mark.parametrize("hot_bytes", [0, 1 << 20])
def test_what_came_back_survives_a_restart(model: str, hot_bytes: int) -> None:
    """Whether it was still in memory, or had to be computed again."""
    bench = bench_of(model, hot_bytes)
    for _ in range(3):
        ask(bench, LONG)
    assert_no_holes(bench)
    bench = bench.restart()
    assert ask(bench, LONG).cached >= 512
    bench.close()


def test_of_what_came_back_only_the_shared_part_is_written() -> None:
    bench = bench_of()
    for number in range(3):
        ask(bench, (*LONG[:600], number, *LONG[:300]))
    settle(bench)
    assert sorted(header.end for header in bench.engine.blocks.headers(NAMESPACE)) == [256, 512]
    bench.close()


@pytest.mark.parametrize("model", SPECS)
@pytest.mark.parametrize("same", [True, False])
def test_an_agent_that_grows_out_of_what_nobody_named_is_durable_as_a_whole(
    model: str, *, same: bool
) -> None:
    bench, reference = bench_of(model), bench_of(model)
    ask(bench, LONG)
    history = LONG if same else (*LONG, *right_answer(LONG, 4), *LONG[:100])
    ask(bench, history, named=True)
    ask(reference, LONG, named=True)
    ask(reference, history, named=True)
    assert_no_holes(bench)
    longer = (*history, *right_answer(history, 4), 1)
    bench, reference = bench.restart(), reference.restart()
    cached = ask(bench, longer).cached
    assert cached == ask(reference, longer).cached
    assert cached >= len(longer) - 2
    bench.close()
    reference.close()


def test_on_what_an_agent_is_remembered_by_nobody_builds_on_disk() -> None:
    bench = bench_of()
    ask(bench, LONG, named=True)
    before = len(puts(bench))
    ask(bench, (*LONG, *right_answer(LONG, 4), *LONG[:300]))
    assert len(puts(bench)) == before
    bench.close()


def test_two_at_once_are_two() -> None:
    bench = bench_of()
    jobs = [bench.accept(LONG, 4) for _ in range(2)]
    for job, _ in jobs:
        job.chain.named = False
    bench.settle()
    assert len(puts(bench)) == 3
    bench.close()


@pytest.mark.parametrize("model", SPECS)
@pytest.mark.parametrize("seed", range(3))
def test_whoever_asks_in_whatever_order_chains_have_no_holes(model: str, seed: int) -> None:
    numbers = random.Random(seed)  # noqa: S311 - a reproducible mixture
    bench = bench_of(model, hot_bytes=numbers.choice([0, 6000, 1 << 20]))
    for _ in range(12):
        length, other = numbers.randrange(200, 700), numbers.randrange(3)
        prompt = (*LONG[:length], other) if numbers.random() < 0.5 else LONG[: length // 256 * 256]
        ask(bench, prompt or LONG[:5], named=numbers.random() < 0.3)
        assert_no_holes(bench)
        if numbers.random() < 0.15:
            bench = bench.restart()
    bench.close()


def test_of_sightings_the_oldest_are_forgotten() -> None:
    sightings = Sightings(limit=2)
    one, two, three = (BlockKey(name) for name in "abc")
    assert [sightings.note(key) for key in (one, two, one, three, two)] == [
        *(False, False, True, False, False)
    ]

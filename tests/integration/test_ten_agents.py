"""Ten agents at once in the room of four, with leaving, coming back and a restart in the middle."""

import asyncio
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import pytest
from tests.fakes.agent_world import AgentWorld, Seen, settings_of

pytestmark = pytest.mark.timeout(900)
"""On a busy machine; alone it takes about a minute."""

AGENTS, TURNS = 10, 5
KV_BYTES = 256 << 20
"""Four rows of a thousand tokens with room to grow, at 46,080 bytes a token, and a block."""
DEADLINE_S = 300.0
"""Of one request, on a machine that does other things as well; a hang would last for ever."""


@dataclass(frozen=True, slots=True)
class Found:
    """What was seen, and of each answer that was kept how far its worst token is from the best."""

    seen: Seen
    worst: list[float]
    of_a_changed_answer: float


def tried(store: Path, cache_dir: Path, model: Path) -> Found:
    """In a process of its own, which gives all its models' memory back."""
    settings = settings_of(
        store, cache_dir, max_batch=AGENTS, max_waiting=2 * AGENTS, kv_bytes=KV_BYTES
    )
    seen = asyncio.run(AgentWorld(settings, AGENTS, TURNS, DEADLINE_S).run())

    from tests.fakes.reference_run import ReferenceRun, generated  # noqa: PLC0415 - after the BLAS

    reference = ReferenceRun(model)
    branches = [branch for record in seen.records for branch in record.branches]
    # In this order what they have in common is read once.
    ordered = sorted(branches, key=lambda branch: branch.ids)
    worst = [reference.worst(branch) for branch in ordered]
    position = next(iter(generated(ordered[-1])))
    changed = list(ordered[-1].ids)
    changed[position] += 1
    return Found(seen, worst, reference.behind(changed)[position])


@pytest.fixture(scope="module")
def found(
    tmp_path_factory: pytest.TempPathFactory, model_cache_dir: Path, default_model_dir: Path
) -> Found:
    store = tmp_path_factory.mktemp("ten-agents") / "store"
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
        return alone.submit(tried, store, model_cache_dir, default_model_dir).result()


def test_every_agent_gets_every_answer_within_its_deadline(found: Found) -> None:
    answers = sum(len(texts) for texts in found.seen.texts.values())
    assert answers == AGENTS * TURNS + found.seen.left
    assert found.seen.left >= AGENTS
    assert found.seen.slowest_s < DEADLINE_S


def test_every_token_is_the_reference_s_or_as_good(found: Found) -> None:
    from tests.fakes.reference_run import BOUND  # noqa: PLC0415 - imports mlx

    assert len(found.worst) >= AGENTS
    assert max(found.worst) <= BOUND
    assert found.of_a_changed_answer > BOUND  # so a wrong token would have been seen


def test_every_answer_that_was_shown_was_held_against_it(found: Found) -> None:
    kept = {
        record.name: [segment.text for branch in record.branches for segment in branch.segments]
        for record in found.seen.records
    }
    assert sorted(kept) == sorted(found.seen.texts)
    for name, texts in found.seen.texts.items():
        for text in texts:
            assert any(segment.startswith(text) for segment in kept[name])


def test_the_budget_is_never_passed(found: Found) -> None:
    samples = found.seen.samples
    assert len(samples) > AGENTS * TURNS
    for sample in samples:
        assert sample.total == KV_BYTES
        assert sample.held + sample.cached + sample.free == sample.total
        assert min(sample) >= 0
        assert sample.batches <= sample.running


def test_the_budget_is_felt(found: Found) -> None:
    # Ten would be in work at once if there were memory for them.
    assert max(sample.held for sample in found.seen.samples) > KV_BYTES / 2
    assert max(sample.cached for sample in found.seen.samples) < KV_BYTES

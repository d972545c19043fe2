"""What tenants write, and what of others they leave alone."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from tests.fakes.blocks import SECRET
from tests.fakes.cache_bench import Bench, Running, Tokens, keys_of, tokens_of
from tests.fakes.scripted_executor import EVERYTHING, LONG_WINDOW, NAMESPACE, RECURRENT, UNIFORM

from semantic.domain.block import BlockHeader, PartId, PartKind
from semantic.domain.block_hash import block_key, tenant_keys
from semantic.domain.cache_spec import ModelCacheSpec
from semantic.domain.ids import PUBLIC, TenantId
from semantic.ports.model_executor import AttachedBlock, PartHandle

ANN, BEA = TenantId("ann"), TenantId("bea")


@pytest.fixture(params=[UNIFORM, LONG_WINDOW, EVERYTHING], ids=["full", "window", "everything"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    made = Bench(request.param, state_interval=256)
    yield made
    made.flush()


def keep(bench: Bench, prompt: Tokens, tenant: TenantId) -> Tokens:
    """A prompt computed from its beginning, and one token of an answer; all that was kept."""
    running = bench.begin(prompt, tenant=tenant)
    running.prefill_as_planned(256)
    running.decode(1)
    return running.end()


def go_on(bench: Bench, prompt: Tokens, tenant: TenantId) -> Running:
    """A prompt computed from what is kept on, until its answer has begun."""
    running = bench.begin(prompt, tenant=tenant)
    running.leave()
    sequence = replace(running.sequence, num_computed=0, state=type(running.sequence.state).WAITING)
    sequence.marks = bench.cache.marks(sequence)
    uses = bench.cache.match(prompt, tenant)
    held: dict[PartId, PartHandle] = {}
    for part in (part for use in uses for part in use.ids):
        handle = bench.cache.parts.hot(part)
        assert handle is not None
        held[part] = handle
    position = sum(use.length for use in uses)
    blocks = [
        AttachedBlock(
            held[use.ids[0]],
            use.length,
            held.get(PartId(use.key, PartKind.SLIDING)),
            held.get(PartId(use.key, PartKind.STATE)),
        )
        for use in uses
    ]
    bench.executor.attach(sequence.id, prompt[:position], blocks, sequence.sampling)
    running.sequence = sequence
    bench.cache.restored(running.chain, uses, held)
    sequence.restored(position)
    running.prefill_as_planned(256)
    running.decode(1)
    return running


def stored(bench: Bench) -> list[BlockHeader]:
    bench.catch_up()
    return list(bench.blocks.headers(NAMESPACE))


def test_the_same_prompt_of_two_tenants_is_kept_twice(bench: Bench) -> None:
    prompt = tokens_of(600)
    keep(bench, prompt, ANN)
    before = len(stored(bench))
    assert bench.matched((*prompt, 1), BEA) == 0
    keep(bench, prompt, BEA)
    headers = stored(bench)
    assert len(headers) == 2 * before
    assert {header.key for header in headers if header.tenant == ANN} >= set(
        keys_of(prompt, ANN)[:2]
    )
    assert {header.key for header in headers if header.tenant == BEA} >= set(
        keys_of(prompt, BEA)[:2]
    )


def test_what_follows_public_blocks_is_the_tenants_own(bench: Bench) -> None:
    system = tokens_of(512)
    keep(bench, (*system, 1), PUBLIC)
    published = {header.id for header in stored(bench)}
    prompt = (*system, 1, *tokens_of(300, seed=3))
    running = go_on(bench, prompt, ANN)
    assert running.sequence.num_cached in (512, 513)
    assert running.chain.public == 2
    running.end()
    new = [header for header in stored(bench) if header.id not in published]
    assert {header.tenant for header in new} == {ANN}
    first = block_key(running.chain.keys[1], prompt[512:768], tenant_keys(ANN, SECRET).salt)
    assert running.chain.keys[2] == first
    assert bench.matched((*prompt, 94), BEA) <= 513
    assert bench.matched((*prompt, 94), PUBLIC) <= 513
    assert bench.matched((*prompt, 94), ANN) >= len(prompt) - 1


def test_a_tenant_never_writes_what_public_blocks_lack(bench: Bench) -> None:
    system = tokens_of(512)
    keep(bench, (*system, 1), PUBLIC)
    bench.catch_up()
    published = {header.id for header in bench.blocks.headers(NAMESPACE)}
    # As after a public conversation whose sliding parts were not worth the disk.
    for part in [part for part in published if part.kind is PartKind.SLIDING]:
        bench.blocks.delete(NAMESPACE, part)
        bench.cache.parts._memory_only.add(part)
    left = {header.id for header in bench.blocks.headers(NAMESPACE)}
    go_on(bench, (*system, 1, *tokens_of(40, seed=3)), ANN).end()
    assert {h.id for h in stored(bench) if h.tenant == PUBLIC} == left


def test_public_parts_are_not_hurried_out_of_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench(LONG_WINDOW)
    system = tokens_of(512)
    keep(bench, (*system, 1), PUBLIC)
    public = set(keys_of(system, PUBLIC))
    bench.cache.parts._memory_only.update(PartId(key, PartKind.SLIDING) for key in public)
    hurried: list[PartId] = []
    monkeypatch.setattr(bench.cache.parts._hot, "first_to_go", hurried.append)
    go_on(bench, (*system, 1, *tokens_of(900, seed=3)), ANN).end()
    assert hurried
    assert not public & {part.key for part in hurried}
    bench.flush()


def test_what_is_public_never_builds_on_a_tenants_blocks(bench: Bench) -> None:
    prompt = tokens_of(600)
    keep(bench, prompt, ANN)
    assert bench.matched((*prompt, 1), PUBLIC) == 0
    running = bench.begin(prompt, tenant=PUBLIC)
    running.prefill_as_planned(256)
    running.decode(1)
    assert running.chain.keys == keys_of(prompt, PUBLIC)[:2]
    running.end()
    headers = {header.key: header for header in stored(bench)}
    for header in headers.values():
        if header.tenant == PUBLIC and header.parent in headers:
            assert headers[header.parent].tenant == PUBLIC


def test_an_answer_that_was_cancelled_at_once_adds_nothing_to_what_is_public() -> None:
    bench = Bench(RECURRENT, state_interval=256)
    system = tokens_of(512)
    keep(bench, (*system, 1), PUBLIC)
    bench.catch_up()
    state = next(
        h.id for h in bench.blocks.headers(NAMESPACE) if (h.end, h.kind.value) == (512, "state")
    )
    running = bench.begin((*system, 2), tenant=ANN)
    running.prefill(512)
    uses = bench.cache.match((*system, 2), ANN)
    bench.cache.restored(running.chain, uses, {})
    bench.cache.parts.forget(state)
    running.end()
    assert state not in bench.cache.parts.index
    bench.flush()


def test_a_file_that_says_it_is_anothers_is_not_taken(bench: Bench) -> None:
    prompt = tokens_of(300)
    keep(bench, prompt, ANN)
    bench.catch_up()
    bench = bench.restarted()
    part = bench.cache.match(prompt, ANN)[0].ids[0]
    found = bench.blocks.get(NAMESPACE, part)
    assert found is not None
    strange = replace(found, header=replace(found.header, tenant=BEA))
    assert bench.cache.adopt(part, prompt[:256], strange) is None
    assert bench.warnings() == ["block_unusable"]
    assert bench.matched(prompt, ANN) == 0
    bench.flush()


@pytest.mark.parametrize("spec", [UNIFORM, EVERYTHING], ids=["full", "everything"])
def test_a_restart_knows_whose_blocks_are(spec: ModelCacheSpec) -> None:
    bench = Bench(spec, state_interval=256)
    system = tokens_of(512)
    keep(bench, (*system, 1), PUBLIC)
    kept = keep(bench, tokens_of(600, seed=2), ANN)
    running = go_on(bench, (*system, 1, *tokens_of(300, seed=3)), BEA)
    followed = running.end()
    after = bench.restarted()
    for tenant in (ANN, BEA, PUBLIC):
        for prompt in ((*kept, 1), (*followed, 1)):
            assert after.cache.match(prompt, tenant) == bench.cache.match(prompt, tenant)
    after.flush()

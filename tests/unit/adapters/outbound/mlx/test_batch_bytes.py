"""What is claimed for batches is at least what they take, on mlx-lm's own caches."""

import gc
import random

import mlx.core as mx
import pytest
from mlx_lm.models.cache import BatchKVCache, KVCache
from tests.fakes import random_models
from tests.fakes.executor_subjects import CONFIGS
from tests.fakes.model_families import FAMILIES

from semantic.adapters.outbound.mlx.batch_bytes import batch_bytes, held_bytes, settle
from semantic.adapters.outbound.mlx.batch_caches import Cache
from semantic.adapters.outbound.mlx.executor import MlxExecutor
from semantic.domain.batch_layout import BatchLayout
from semantic.domain.cache_spec import AttentionLayer, ModelCacheSpec
from semantic.domain.ids import SequenceId
from semantic.domain.sampling import SamplingParams
from semantic.domain.step_plan import PrefillChunk, StepPlan

CHUNK = 256
GREEDY = SamplingParams(temperature=0)


class Traffic:
    """Sequences that come, are prefilled in chunks, decode together and go, at random."""

    def __init__(self, name: str, seed: int) -> None:
        model = random_models.make_model(CONFIGS[name])
        self.executor = MlxExecutor(model, random_models.capabilities(model), CHUNK)
        self.numbers = random.Random(seed)  # noqa: S311 - reproducible
        self.layout = BatchLayout(self.executor.batch_bytes, padding_limit=1 << 14)
        self.left: dict[SequenceId, int] = {}
        self.tokens: dict[SequenceId, int] = {}
        self.count = 0

    def come(self) -> None:
        self.count += 1
        key = SequenceId(self.count)
        length = self.numbers.choice([3, 130, 256, 300, 400])
        self.layout.put(key, length + 1, self.layout.places(length + 1)[0].partner)
        self.executor.attach(key, (), (), GREEDY)
        self.left[key], self.tokens[key] = length, 0

    def step(self) -> None:
        decoding = tuple(key for key, left in self.left.items() if not left)
        prefilling = [key for key, left in self.left.items() if left]
        chunk = None
        if prefilling:
            key = self.numbers.choice(prefilling)
            length = min(self.left[key], self.numbers.randint(1, CHUNK))
            last = length == self.left[key]
            beside = [other for other in self.layout.beside(key) if other in decoding]
            joins = beside[0] if last and beside else None
            chunk = PrefillChunk(key, (1,) * length, last, joins)
            self.left[key] -= length
            self.tokens[key] += length
        for key in decoding:
            self.tokens[key] += 1
            if self.tokens[key] >= self.layout.room(key):
                self.layout.grow({key: self.layout.room(key) + 64})
        self.executor.run(StepPlan(decoding, chunk))

    def go(self) -> None:
        if self.left:
            key = self.numbers.choice(sorted(self.left))
            self.executor.release(key)
            self.layout.remove(key)
            del self.left[key], self.tokens[key]


@pytest.mark.parametrize("name", ["llama", "gpt_oss", "qwen3_next", "mamba2", "deepseek_v32"])
def test_batches_never_take_more_than_is_claimed(name: str) -> None:
    traffic = Traffic(name, seed=5)
    most = 0.0
    for _ in range(50):
        action = traffic.numbers.random()
        if action < 0.25 and len(traffic.left) < 4:
            traffic.come()
        elif action < 0.32:
            traffic.go()
        else:
            traffic.step()
        held, claimed = traffic.executor.held_bytes(), traffic.layout.nbytes
        assert held <= claimed
        most = max(most, held / claimed if claimed else 0.0)
    # Not so generous that memory would lie idle.
    assert most > 0.2
    for key in list(traffic.left):
        traffic.executor.release(key)
    assert traffic.executor.held_bytes() == 0


def filled(layers: int, tokens: int) -> list[Cache]:
    """A row's caches, of so many layers and tokens."""
    caches: list[Cache] = [BatchKVCache([0]) for _ in range(layers)]
    for cache in caches:
        cache.update_and_fetch(mx.ones((1, 4, tokens, 32)), mx.ones((1, 4, tokens, 32)))
        mx.eval(cache.state)
    return caches


def test_a_join_and_a_leave_copy_one_layer_at_a_time() -> None:
    spec = ModelCacheSpec((AttentionLayer(4, 32, 32, "F32"),) * 16)
    gc.collect()
    before = mx.get_active_memory()
    mine, theirs = filled(16, 2000), filled(16, 1500)
    mx.reset_peak_memory()
    for cache, other in zip(mine, theirs, strict=True):
        cache.extend(other)
    settle(mine, theirs)
    joined = batch_bytes(spec, (2000, 1500), 1024)
    assert mx.get_peak_memory() - before < joined
    # Computed all at once, the old buffers would be there beside the new ones.
    assert joined < 2 * held_bytes(mine)
    mx.reset_peak_memory()
    for cache in mine:
        cache.filter([1])
    settle(mine)
    assert mx.get_peak_memory() - before < joined
    gc.collect()
    assert mx.get_active_memory() - before <= batch_bytes(spec, (1500,), 1024)


def test_a_row_that_was_cut_shorter_holds_no_more_than_that() -> None:
    model = random_models.make_model(FAMILIES["llama"])
    executor = MlxExecutor(model, random_models.capabilities(model), 1024)
    for number, length in enumerate((600, 20)):
        executor.attach(SequenceId(number), (), (), GREEDY)
        decoding = tuple(SequenceId(other) for other in range(number))
        joins = decoding[0] if decoding else None
        chunk = PrefillChunk(SequenceId(number), (1,) * length, last=True, joins=joins)
        executor.run(StepPlan(decoding, chunk))
    gc.collect()
    executor.release(SequenceId(0))
    gc.collect()
    held = mx.get_active_memory()
    executor.release(SequenceId(1))
    gc.collect()
    spec = executor.capabilities.spec
    assert spec is not None
    assert held - mx.get_active_memory() <= batch_bytes(spec, (21,), 1024)


def test_mlx_lm_grows_by_the_step_that_is_reckoned_with() -> None:
    assert KVCache.step == BatchKVCache.step == 256
    cache: Cache = BatchKVCache([0])
    for tokens in (100, 200, 1, 300):
        cache.update_and_fetch(mx.zeros((1, 1, tokens, 2)), mx.zeros((1, 1, tokens, 2)))
        layer = AttentionLayer(1, 2, 2, "F32")
        row = batch_bytes(ModelCacheSpec((layer,)), (cache._idx,), 300) // 3
        assert cache.nbytes <= row

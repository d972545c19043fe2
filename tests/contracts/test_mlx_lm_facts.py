"""What we rely on in mlx and mlx-lm. A new version that differs fails here, not at a user's.

Nothing of ours is tested; each test is one fact, and most name the code that rests on it.
"""

import inspect
import sys
import tomllib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.nn.layers.base import Module
from mlx_lm.generate import (
    BatchGenerator,
    GenerationBatch,
    PromptProcessingBatch,
    StopSequences,
)
from mlx_lm.models.cache import (
    ArraysCache,
    BatchKVCache,
    BatchRotatingKVCache,
    CacheList,
    KVCache,
    QuantizedKVCache,
    make_prompt_cache,
)
from mlx_lm.sample_utils import apply_top_p, greedy_sampler
from tests.fakes import random_models

MLX, MLX_LM = "0.32.4", "0.32.2"
PROJECT = Path(__file__).parents[2] / "pyproject.toml"
PROMPT = [5, 3, 8, 13, 21, 34]


class Recorder(Module):
    """A model that notes how many tokens it is given, and may fail on the n-th call."""

    def __init__(self, model: Module, fail_on_call: int | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # mlx is untyped here
        self.model = model
        self.calls: list[tuple[int, ...]] = []
        self.fail_on_call = fail_on_call

    @property
    def layers(self) -> list[Module]:
        found: list[Module] = self.model.layers
        return found

    def __call__(self, tokens: mx.array, **kwargs: object) -> mx.array:
        self.calls.append(tuple(tokens.shape))
        if len(self.calls) == self.fail_on_call:
            raise RuntimeError("out of memory")
        logits: mx.array = self.model(tokens, **kwargs)
        return logits


@pytest.fixture(scope="module")
def llama() -> Module:
    return random_models.make_model(random_models.LLAMA)


@pytest.fixture
def model(llama: Module) -> Recorder:
    return Recorder(llama)


def prompt_batch(
    model: Module, tokens: list[list[int]] | None = None, **options: Any
) -> PromptProcessingBatch:
    count = len(tokens) if tokens else 1
    return PromptProcessingBatch(
        model,
        uids=list(range(count)),
        caches=[make_prompt_cache(model) for _ in range(count)],
        tokens=tokens,
        **options,
    )


def generation(model: Module, prompt: Sequence[int] = PROMPT, uid: int = 0) -> GenerationBatch:
    batch = PromptProcessingBatch(
        model,
        [uid],
        [make_prompt_cache(model)],
        samplers=[greedy_sampler],
        logits_processors=[[]],
    )
    started: GenerationBatch = batch.generate([list(prompt)])
    return started


def filled(length: int, value: float = 1.0) -> KVCache:
    cache = KVCache()  # type: ignore[no-untyped-call] # mlx-lm is untyped
    ramp = value * (1 + mx.arange(length, dtype=mx.float32)).reshape(1, 1, length, 1)
    ramp = mx.repeat(ramp, 2, axis=1)  # two heads
    cache.update_and_fetch(ramp, -ramp)  # type: ignore[no-untyped-call]
    return cache


class TestVersions:
    def test_are_the_ones_these_facts_were_found_in(self) -> None:
        assert version("mlx") == MLX
        assert version("mlx-lm") == MLX_LM

    def test_are_pinned_exactly(self) -> None:
        project = tomllib.loads(PROJECT.read_text())["project"]
        extras = project["optional-dependencies"]
        named = [*project["dependencies"], *extras["cuda12"], *extras["cuda13"]]
        engines = [line.split(";")[0].strip() for line in named if line.startswith("mlx")]
        assert engines == [
            f"mlx=={MLX}",
            f"mlx[cpu]=={MLX}",
            f"mlx-lm=={MLX_LM}",
            f"mlx-cuda-12=={MLX}",
            f"mlx-cuda-13=={MLX}",
        ]


class TestBatchKVCache:
    """`batch_caches` and `RestoredKVCache` know this layout."""

    def test_rows_lie_to_the_right_behind_padding(self) -> None:
        batch = BatchKVCache.merge([filled(3), filled(5, 10.0)])  # type: ignore[no-untyped-call]
        assert batch.left_padding.tolist() == [2, 0]
        assert batch.offset.tolist() == [3, 5]
        assert batch._idx == batch.size() == 5
        keys, values = batch.keys_and_values()
        assert (keys.shape, values.shape) == ((2, 2, 5, 1), (2, 2, 5, 1))
        assert keys[0, 0, 2:, 0].tolist() == [1, 2, 3]
        assert values[1, 0, :, 0].tolist() == [-10, -20, -30, -40, -50]

    def test_new_positions_come_at_the_index_of_a_padded_buffer(self) -> None:
        batch = BatchKVCache.merge([filled(3), filled(5)])  # type: ignore[no-untyped-call]
        new = mx.full((2, 2, 1, 1), 77.0)
        batch.update_and_fetch(new, new)
        assert batch.keys.shape[2] == 5 + BatchKVCache.step
        assert batch._idx == 6
        assert batch.offset.tolist() == [4, 6]
        assert batch.left_padding.tolist() == [2, 0]
        keys, _ = batch.keys_and_values()
        assert keys[:, 0, 5, 0].tolist() == [77, 77]

    def test_the_state_is_five_values_and_can_be_set(self) -> None:
        source = filled(3)
        batch = BatchKVCache([0])
        batch.state = (source.keys, source.values, mx.array([3]), mx.array([0]), 3)
        merged = BatchKVCache.merge([source])  # type: ignore[no-untyped-call]
        assert len(merged.state) == 5
        for ours, theirs in zip(batch.keys_and_values(), merged.keys_and_values(), strict=True):  # type: ignore[no-untyped-call]
            assert mx.array_equal(ours, theirs)
        for ours, theirs in zip(batch.state[2:4], merged.state[2:4], strict=True):
            assert (ours.tolist(), ours.dtype) == (theirs.tolist(), theirs.dtype)
        assert batch.state[4] == merged.state[4]

    def test_a_buffer_with_room_is_not_copied(self) -> None:
        batch = BatchKVCache([0])
        keys, values = mx.zeros((1, 1, 512, 1)), mx.zeros((1, 1, 512, 1))
        batch.state = (keys, values, mx.array([256]), mx.array([0]), 256)
        new = mx.ones((1, 1, 256, 1))
        batch.update_and_fetch(new, new)  # type: ignore[no-untyped-call]
        # What was handed over belongs to the batch: it is written to.
        assert batch.keys is keys
        assert keys[0, 0, :, 0].tolist() == [0] * 256 + [1] * 256

    def test_the_step_is_a_block(self) -> None:
        assert KVCache.step == BatchKVCache.step == 256

    def test_filter_drops_the_padding_that_all_rows_have(self) -> None:
        batch = BatchKVCache.merge([filled(2), filled(3), filled(6)])  # type: ignore[no-untyped-call]
        batch.filter([0, 1])
        assert batch.left_padding.tolist() == [1, 0]
        assert batch.offset.tolist() == [2, 3]
        assert batch._idx == 3
        keys, _ = batch.keys_and_values()
        assert keys[1, 0, :, 0].tolist() == [1, 2, 3]

    @pytest.mark.parametrize(("first", "second"), [(2, 6), (6, 2)])
    def test_extend_pads_the_shorter_one(self, first: int, second: int) -> None:
        batch = BatchKVCache.merge([filled(first)])  # type: ignore[no-untyped-call]
        batch.extend(BatchKVCache.merge([filled(second, 10.0)]))  # type: ignore[no-untyped-call]
        assert batch.left_padding.tolist() == [6 - first, 6 - second]
        assert batch.offset.tolist() == [first, second]
        assert batch._idx == 6
        keys, _ = batch.keys_and_values()
        assert keys[1, 0, 6 - second :, 0].tolist() == [10 * (i + 1) for i in range(second)]

    def test_a_batch_merges_with_the_caches_own_class(self, model: Recorder) -> None:
        merged = []

        class Ours(KVCache):
            @classmethod
            def merge(cls, caches: list[KVCache]) -> BatchKVCache:
                merged.append(caches)
                return BatchKVCache([0])

        caches = [Ours(), Ours()]  # type: ignore[no-untyped-call]
        PromptProcessingBatch(model, [0], [caches])
        assert merged == [[caches[0]], [caches[1]]]

    def test_a_sliding_layers_cache_is_of_another_class(self) -> None:
        for config in (random_models.GEMMA3, random_models.GPT_OSS):
            caches = make_prompt_cache(random_models.make_model(config))
            assert any(type(cache) is not KVCache for cache in caches)
            assert all(hasattr(cache, "merge") for cache in caches)

    def test_quantised_caches_cannot_enter_a_batch(self, model: Recorder) -> None:
        caches = [QuantizedKVCache(), QuantizedKVCache()]
        with pytest.raises(ValueError, match="does not yet support batching"):
            PromptProcessingBatch(model, [0], [caches])


WINDOW = 4


def rotating(*chunks: int, first: int = 0) -> BatchRotatingKVCache:
    """A sliding layer's batch of one, after chunks of tokens whose keys are their positions."""
    batch = BatchRotatingKVCache(WINDOW, [0])
    for chunk in chunks:
        advance(batch, chunk, first)
    return batch


def advance(batch: BatchRotatingKVCache, count: int, first: int = 0) -> tuple[mx.array, mx.array]:
    rows = batch.offset[:, None] + first + mx.arange(count)
    ramp = rows[:, None, :, None].astype(mx.float32)
    found: tuple[mx.array, mx.array] = batch.update_and_fetch(ramp, -ramp)  # type: ignore[no-untyped-call]
    return found


def keys(batch: BatchRotatingKVCache, row: int = 0) -> list[int]:
    """The buffer as it lies in memory."""
    return [int(key) for key in np.array(batch.keys)[row, 0, :, 0]]


def visible(batch: BatchRotatingKVCache, count: int) -> list[list[int]]:
    """For each of `count` tokens to come the keys that its mask lets it see, itself included."""
    mask = np.array(batch.make_mask(count))[0, 0]
    seen = np.array(advance(batch, count)[0])[0, 0, :, 0]
    return [sorted(int(key) for key in seen[line]) for line in mask]


class TestBatchRotatingKVCache:
    """`batch_caches._stretches` and `restored_caches._sliding` know this layout."""

    def test_the_state_is_eight_values_and_can_be_set(self) -> None:
        source = rotating(6, 1)
        state = source.state
        named = (source.max_size, source._offset, source._idx, source.rotated)
        assert state[4:] == named
        assert (state[4:], state[2].tolist(), state[3].tolist()) == ((4, 7, 1, True), [7], [-3])
        assert state[0] is source.keys
        assert state[1] is source.values
        batch = BatchRotatingKVCache(WINDOW, [0])
        batch.state = state
        assert visible(batch, 1) == visible(source, 1) == [[4, 5, 6, 7]]

    def test_a_chunk_comes_behind_one_token_less_than_the_window(self) -> None:
        batch = rotating(6)
        assert (keys(batch), batch._idx, batch.rotated) == ([0, 1, 2, 3, 4, 5], 6, False)
        advance(batch, 3)
        assert (keys(batch), batch._idx, batch.rotated) == ([3, 4, 5, 6, 7, 8], 6, False)
        assert batch.left_padding.tolist() == [-3]

    def test_a_single_token_takes_the_place_of_the_oldest(self) -> None:
        batch = rotating(6)
        found = []
        for _ in range(5):
            advance(batch, 1)
            found.append((keys(batch), batch._idx, batch.rotated))
        assert found == [
            ([6, 3, 4, 5], 1, True),
            ([6, 7, 4, 5], 2, True),
            ([6, 7, 8, 5], 3, True),
            ([6, 7, 8, 9], 4, True),
            ([10, 7, 8, 9], 1, True),
        ]

    def test_before_the_window_is_full_there_is_room_behind_the_index(self) -> None:
        batch = rotating(2, 1)
        assert (keys(batch)[:3], batch._idx, batch.rotated) == ([0, 1, 2], 3, False)
        assert len(keys(batch)) == WINDOW

    def test_a_chunk_puts_the_ring_in_order_again(self) -> None:
        batch = rotating(6, 1, 1)
        assert keys(batch) == [6, 7, 4, 5]
        advance(batch, 2)
        assert (keys(batch), batch._idx, batch.rotated) == ([5, 6, 7, 8, 9], 5, False)

    @pytest.mark.parametrize("count", [1, 2, 3])
    def test_the_oldest_column_of_a_window_is_seen_by_nobody(self, count: int) -> None:
        """Why a restored one may be anything, as long as it is there and called padding."""
        uninterrupted = rotating(6, 3)
        blank = mx.array([99.0, 6, 7, 8]).reshape(1, 1, 4, 1)
        restored = BatchRotatingKVCache(WINDOW, [0])
        restored.state = (blank, -blank, mx.array([9]), mx.array([1]), WINDOW, 9, 4, False)
        expected = [list(range(end - 3, end + 1)) for end in range(9, 9 + count)]
        assert visible(restored, count) == visible(uninterrupted, count) == expected
        assert 99 not in keys(restored)
        assert restored.left_padding.tolist() == [0]
        # And what follows lies in the same places.
        assert keys(restored) == keys(uninterrupted)
        assert restored.state[4:] == uninterrupted.state[4:]

    def test_without_that_column_the_next_token_finds_no_room(self) -> None:
        """The reason for it."""
        held = mx.array([6.0, 7, 8]).reshape(1, 1, 3, 1)
        batch = BatchRotatingKVCache(WINDOW, [0])
        batch.state = (held, -held, mx.array([9]), mx.array([0]), WINDOW, 9, 3, False)
        with pytest.raises(ValueError, match="Negative"):
            advance(batch, 1)

    @pytest.mark.parametrize("others", [(2, 1), (6, 1), (6, 1, 1, 1), (3, 1)])
    def test_extend_puts_both_in_order_and_pads_the_shorter_one(
        self, others: tuple[int, ...]
    ) -> None:
        batch, other = rotating(6, 1), rotating(*others, first=100)
        batch.extend(other)  # type: ignore[no-untyped-call]
        start = batch._idx if batch.rotated else 0
        for row, first, computed in ((0, 0, 7), (1, 100, sum(others))):
            turned = [*keys(batch, row)[start:], *keys(batch, row)[:start]]
            held = min(computed, WINDOW)
            assert turned[-held:] == [first + at for at in range(computed - held, computed)]
            assert max(0, np.array(batch.left_padding)[row]) == WINDOW - held
            assert np.array(batch.offset)[row] == computed

    def test_filter_leaves_all_in_its_place(self) -> None:
        batch, other = rotating(6, 1), rotating(2, 1, first=100)
        batch.extend(other)  # type: ignore[no-untyped-call]
        before = (keys(batch, 1), batch._idx, batch.rotated, np.array(batch.left_padding)[1])
        batch.filter([1])  # type: ignore[no-untyped-call]
        assert (keys(batch), batch._idx, batch.rotated, batch.left_padding.item()) == before

    def test_an_extracted_row_is_in_temporal_order(self) -> None:
        cache = rotating(6, 1, 1).extract(0)  # type: ignore[no-untyped-call]
        assert cache.keys[0, 0, :, 0].tolist() == [4, 5, 6, 7]
        assert (cache.offset, cache._idx) == (8, 4)


class TestArraysCache:
    """`RestoredArraysCache` hands over what has begun as if it were new."""

    @staticmethod
    def begun(left_padding: list[int] | None, tokens: int) -> ArraysCache:
        cache = ArraysCache(1, left_padding=left_padding)
        cache[0] = mx.ones((1, 2))
        cache.advance(tokens)  # type: ignore[no-untyped-call]
        return cache

    def test_an_empty_one_enters_a_batch_with_no_padding(self) -> None:
        batch = ArraysCache.merge([ArraysCache(1)])  # type: ignore[no-untyped-call]
        assert batch.left_padding.tolist() == [0]
        assert batch.lengths is None

    @pytest.mark.parametrize("count", [1, 5])
    def test_the_mask_of_a_restored_one_is_that_of_one_that_went_on(self, count: int) -> None:
        restored, went_on = self.begun([0], 0), self.begun([0], 300)
        first, second = restored.make_mask(count), went_on.make_mask(count)
        assert np.array(first).all()
        assert np.array_equal(first, second)

    def test_merged_with_a_state_it_would_have_no_mask(self) -> None:
        """Another way through the model than the uninterrupted run's: the reason for ours."""
        started = self.begun(None, 0)
        batch = ArraysCache.merge([started])  # type: ignore[no-untyped-call]
        assert batch.left_padding is None
        assert batch.make_mask(5) is None

    def test_rows_of_both_go_together(self) -> None:
        batch, other = self.begun([0], 300), self.begun([0], 0)
        batch.extend(other)  # type: ignore[no-untyped-call]
        assert batch[0].shape == (2, 2)
        assert np.array(batch.make_mask(1)).all()
        batch.filter([1])  # type: ignore[no-untyped-call]
        assert batch[0].shape == (1, 2)


class TestCacheList:
    def test_each_of_its_caches_is_merged_by_its_own_class(self) -> None:
        class Ours(KVCache):
            @classmethod
            def merge(cls, caches: list[KVCache]) -> BatchKVCache:
                return BatchKVCache([len(caches)])

        batch = CacheList.merge([CacheList(Ours(), KVCache())])  # type: ignore[no-untyped-call]
        assert [cache.left_padding.tolist() for cache in batch.caches] == [[1], [0]]


class TestPromptProcessingBatch:
    def test_prompt_adds_to_the_tokens_list_it_was_given(self, model: Recorder) -> None:
        tokens = [1, 2]
        batch = prompt_batch(model, [tokens])
        batch.prompt([[3, 4, 5]])
        assert batch.tokens[0] is tokens
        assert tokens == [1, 2, 3, 4, 5]

    def test_tokens_and_offset_agree_after_every_chunk(self, model: Recorder) -> None:
        batch = prompt_batch(model)
        for chunk in ([1], [2, 3, 4], [5, 6]):
            batch.prompt([chunk])
            lengths = {layer.offset[0].item() for layer in batch.prompt_cache}
            assert lengths == {len(batch.tokens[0])}
        assert batch.tokens[0] == [1, 2, 3, 4, 5, 6]

    def test_a_chunk_is_cut_only_at_its_step_size(self, model: Recorder) -> None:
        prompt_batch(model, prefill_step_size=4).prompt([list(range(10))])
        assert model.calls == [(1, 4), (1, 4), (1, 2)]
        model.calls.clear()
        prompt_batch(model, prefill_step_size=sys.maxsize).prompt([list(range(10))])
        assert model.calls == [(1, 10)]

    def test_the_last_token_goes_in_apart(self, model: Recorder) -> None:
        batch = prompt_batch(model)
        started = batch.generate([PROMPT])
        assert model.calls == [(1, 5), (1, 1)]
        assert started.tokens == [PROMPT]
        assert len(batch) == 0

    def test_a_single_last_token_needs_no_prefill(self, model: Recorder) -> None:
        prompt_batch(model).generate([[7]])
        assert model.calls == [(1, 1)]

    def test_injected_caches_are_not_changed(self, model: Recorder) -> None:
        caches = make_prompt_cache(model)
        model(mx.array([PROMPT]), cache=caches)
        before = [(cache.offset, np.array(cache.keys)) for cache in caches]
        batch = PromptProcessingBatch(model, [0], [caches], [list(PROMPT)])
        started = batch.generate([[1, 2]])
        started.next()
        for cache, (offset, keys) in zip(caches, before, strict=True):
            assert cache.offset == offset
            assert np.array_equal(np.array(cache.keys), keys)

    def test_an_exception_in_mid_prefill_desynchronises(self, llama: Module) -> None:
        """The reason for `ModelExecutor.reset`."""
        failing = Recorder(llama, fail_on_call=2)
        batch = prompt_batch(failing, prefill_step_size=64)
        with pytest.raises(RuntimeError, match="out of memory"):
            batch.prompt([list(range(100))])
        assert len(batch.tokens[0]) == 100
        assert batch.prompt_cache[0].offset[0].item() == 64
        batch.prompt([[1]])  # and nothing tells


class TestGenerationBatch:
    def test_holds_every_token_that_it_returned_and_one_more_in_hand(self, model: Recorder) -> None:
        batch = generation(model)
        assert batch.tokens[0] == PROMPT
        returned: list[int] = []
        for _ in range(5):
            ahead = batch._next_tokens.item()
            (response,) = batch.next()
            assert response.token == ahead
            returned.append(response.token)
            assert batch.tokens[0] == PROMPT + returned
            assert {layer.offset[0].item() for layer in batch.prompt_cache} == {
                len(batch.tokens[0])
            }

    def test_without_stops_and_limits_nothing_ends(self, model: Recorder) -> None:
        batch = prompt_batch(
            model, max_tokens=[sys.maxsize], stop_sequences=[StopSequences()]
        ).generate([PROMPT])
        for _ in range(300):
            (response,) = batch.next()
            assert response.finish_reason is None
        assert len(batch) == 1

    def test_otherwise_it_ends_after_a_default_number(self, model: Recorder) -> None:
        batch = generation(model)
        assert 0 < batch.max_tokens[0] < 1000

    def test_one_set_of_empty_stop_sequences_serves_all(self) -> None:
        never = StopSequences()
        assert not any(never.matcher().advance(token) for token in range(50))

    def test_answers_come_in_the_order_of_its_rows(self, model: Recorder) -> None:
        batch = generation(model, uid=7)
        batch.extend(generation(model, [1, 2], uid=3))  # type: ignore[no-untyped-call]
        batch.extend(generation(model, [9], uid=5))  # type: ignore[no-untyped-call]
        assert batch.uids == [7, 3, 5]
        assert [response.uid for response in batch.next()] == [7, 3, 5]
        batch.filter([0, 2])
        assert [response.uid for response in batch.next()] == [7, 5]

    def test_joining_and_leaving_change_nobodys_answer(self, llama: Module) -> None:
        prompts = [PROMPT, [1, 2], list(range(40))]
        alone = []
        for prompt in prompts:
            single = generation(llama, prompt)
            alone.append([single.next()[0].token for _ in range(8)])
        batch = generation(llama, prompts[0])
        got: dict[int, list[int]] = {0: [], 1: [], 2: []}
        for step in range(8):
            if step == 2:
                batch.extend(generation(llama, prompts[1], uid=1))  # type: ignore[no-untyped-call]
            if step == 4:
                batch.extend(generation(llama, prompts[2], uid=2))  # type: ignore[no-untyped-call]
            if step == 6:
                batch.filter([1, 2])
            for response in batch.next():
                got[response.uid].append(response.token)
        assert got == {0: alone[0][:6], 1: alone[1][:6], 2: alone[2][:4]}

    def test_a_row_cannot_leave_unless_it_brought_a_sampler(self, model: Recorder) -> None:
        bare = prompt_batch(model, [[], []]).generate([[1], [2]])
        with pytest.raises(IndexError):
            bare.filter([0])

    def test_a_shared_sampler_is_called_once_and_others_row_by_row(self, model: Recorder) -> None:
        shapes: list[tuple[int, ...]] = []

        def sampler() -> Any:
            def sample(logprobs: mx.array) -> mx.array:
                shapes.append(tuple(logprobs.shape))
                return mx.argmax(logprobs, axis=-1)

            return sample

        shared = sampler()
        for samplers in ([shared, shared], [sampler(), sampler()]):
            batch = prompt_batch(model, [[], []], samplers=samplers, logits_processors=[[], []])
            batch.generate([[1], [2]])
        rows = random_models.VOCABULARY
        assert shapes == [(2, rows), (1, rows), (1, rows)]

    def test_log_probabilities_keep_the_models_precision(self) -> None:
        """The reason why our sampler widens them."""
        seen: list[mx.Dtype] = []

        def sample(logprobs: mx.array) -> mx.array:
            seen.append(logprobs.dtype)
            return mx.argmax(logprobs, axis=-1)

        half = random_models.make_model(random_models.LLAMA, dtype=mx.float16)
        prompt_batch(half, samplers=[sample], logits_processors=[[]]).generate([[1]])
        assert seen == [mx.float16]


class TestSampling:
    def test_top_p_keeps_the_smallest_set_that_has_the_mass(self) -> None:
        probabilities = mx.array([[0.1, 0.5, 0.15, 0.25]])
        kept = apply_top_p(mx.log(probabilities), 0.7)
        assert mx.isfinite(kept).tolist() == [[False, True, False, True]]

    def test_an_explicit_key_makes_the_choice(self) -> None:
        logits = mx.zeros((1, 1000))
        chosen = [mx.random.categorical(logits, key=mx.random.key(3)).item() for _ in range(3)]
        assert len(set(chosen)) == 1
        assert chosen[0] != mx.random.categorical(logits, key=mx.random.key(4)).item()

    def test_keys_take_64_bits(self) -> None:
        assert mx.random.key(2**64 - 2).tolist() == [2**32 - 1, 2**32 - 2]


class TestBatchGenerator:
    """Not used by the server: these are why (ADR-003), and what the experiments use."""

    def test_takes_its_options_by_name_only(self) -> None:
        options = list(inspect.signature(BatchGenerator).parameters.values())
        assert options[0].name == "model"
        assert {option.kind for option in options[1:]} == {inspect.Parameter.KEYWORD_ONLY}

    def test_next_prefills_as_it_likes(self, model: Recorder) -> None:
        generator = BatchGenerator(model, prefill_step_size=4)
        generator.insert([PROMPT, PROMPT], [3, 3])
        prompts, answers = generator.next()  # type: ignore[no-untyped-call]
        # Both prompts at once, and as much of each as its own step says.
        assert {response.uid: response.progress for response in prompts} == {0: (4, 6), 1: (4, 6)}
        assert answers == []
        assert model.calls == [(2, 4)]
        generator.close()  # type: ignore[no-untyped-call]

    def test_hands_out_its_own_token_list(self, model: Recorder) -> None:
        generator = BatchGenerator(model)
        known = [40, 41]
        caches = make_prompt_cache(model)
        model(mx.array([known]), cache=caches)
        generator.insert([PROMPT], [2], caches=[caches], all_tokens=[known])
        responses: list[Any] = []
        while not responses or responses[-1].finish_reason is None:
            responses += generator.next_generated()  # type: ignore[no-untyped-call]
        answer = [response.token for response in responses]
        assert responses[-1].all_tokens == [40, 41, *PROMPT, *answer]
        # Ours has been changed: copy before handing it in.
        assert known == responses[-1].all_tokens
        # All that was returned is in the cache, the last token too.
        assert responses[-1].prompt_cache[0].offset == len(known)
        generator.close()  # type: ignore[no-untyped-call]


class TestArrays:
    def test_unevaluated_ones_are_bound_to_their_thread(self) -> None:
        lazy = mx.arange(4) + 1
        evaluated = mx.arange(4) + 2
        mx.eval(evaluated)
        with ThreadPoolExecutor(1) as pool:
            with pytest.raises(RuntimeError, match="no Stream"):
                pool.submit(mx.eval, lazy).result()
            assert pool.submit(evaluated.tolist).result() == [2, 3, 4, 5]

    def test_are_values_however_they_are_written(self) -> None:
        first = mx.zeros(3)
        second = first + 0
        mx.eval(first, second)
        kept = first
        first[0] = 5
        assert kept.tolist() == [5, 0, 0]  # the same Python object
        part = second[:2]
        second[0] = 9
        assert part.tolist() == [0, 0]  # an array made from it keeps its values

    @pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16])
    def test_views_keep_all_bits(self, dtype: mx.Dtype) -> None:
        """`kv_part` takes KV through integers of the same width."""
        integer = mx.uint32 if dtype.size == 4 else mx.uint16
        bits = mx.array(np.arange(65536), dtype=integer) * (1 if dtype.size == 2 else 65521)
        assert mx.array_equal(bits.view(dtype).view(integer), bits)


class TestFiles:
    def test_loading_is_lazy(self, tmp_path: Path) -> None:
        """Files are read whole before anything may replace them."""
        path = tmp_path / "x.safetensors"
        mx.save_safetensors(str(path), {"x": mx.zeros(4)})
        loaded = mx.load(str(path))
        assert isinstance(loaded, dict)
        changed = path.read_bytes()[:-16] + np.ones(4, np.float32).tobytes()
        with path.open("r+b") as file:
            file.write(changed)
        assert loaded["x"].tolist() == [1, 1, 1, 1]

    def test_a_flipped_bit_is_not_noticed(self, tmp_path: Path) -> None:
        """The reason for checksums."""
        path = tmp_path / "x.safetensors"
        mx.save_safetensors(str(path), {"x": mx.zeros(4)})
        damaged = bytearray(path.read_bytes())
        damaged[-1] ^= 0x40
        path.write_bytes(damaged)
        loaded = mx.load(str(path))
        assert isinstance(loaded, dict)
        assert loaded["x"].tolist() == [0, 0, 0, 2]

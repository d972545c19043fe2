"""Quantised KV is quantised once: what was kept stays, however often it is gone on from."""

from collections.abc import Mapping
from typing import Final

import pytest
from bench.teacher_forcing import scores
from tests.fakes import random_models
from tests.fakes.engine_driver import (
    GREEDY,
    Driver,
    KeptBlock,
    attached,
    exported,
    keep,
    make_prompt,
    rule_of,
    through_bytes,
)
from tests.fakes.model_families import FAMILIES, WINDOW
from tests.fakes.quantised_models import PROMISED, quantised, wide_model, widened

from semantic.adapters.outbound.mlx.executor import MlxExecutor
from semantic.adapters.outbound.mlx.kv_bits import in_bits
from semantic.domain.block import PartKind, Tensor
from semantic.domain.cache_spec import BLOCK_SIZE, AttentionLayer, ModelCacheSpec
from semantic.domain.errors import IncompatibleCacheError
from semantic.domain.ids import SequenceId

A, B = SequenceId(0), SequenceId(1)
EACH_FAMILY = pytest.mark.parametrize("family", PROMISED)
EACH_PRECISION = pytest.mark.parametrize("bits", [8, 4])
DIVERGENCE: Final = {8: 1e-4, 4: 0.02}
"""Nats a token that predictions may be from those of unquantised KV."""
AMPLIFIED: Final = {"gemma3_text": 50, "gemma3": 50}
"""Times that: its norms add one to weights that are about one here, which doubles every layer."""

Rows = Mapping[tuple[str, int, int], bytes]
"""The bytes of a layer's array at a position, by the array's name."""


def rows(tensors: tuple[Tensor, ...], end: int) -> Rows:
    """Of a part that ends at `end`, every layer's bytes of every position."""
    found = {}
    for one in tensors:
        layers, _, heads, length, _ = one.shape
        size = len(one.data) // (layers * heads * length)
        for layer in range(layers):
            for row in range(length):
                starts = [((layer * heads + head) * length + row) * size for head in range(heads)]
                found[one.name, layer, end - length + row] = b"".join(
                    one.data[start : start + size] for start in starts
                )
    return found


def attention_rows(executor: MlxExecutor, block: KeptBlock) -> Mapping[PartKind, Rows]:
    """Those of keys and values; what is full and what is a tail are one."""
    return {
        PartKind.FULL if kind.begins else kind: rows(tensors, block.end)
        for kind, tensors in exported(executor, block).items()
        if kind is not PartKind.STATE
    }


def assert_taken_over(later: Mapping[PartKind, Rows], earlier: Mapping[PartKind, Rows]) -> int:
    """Every row that both hold is the same; how many these were."""
    shared = 0
    for kind, before in earlier.items():
        both = later[kind].keys() & before.keys()
        assert {key: later[kind][key] for key in both} == {key: before[key] for key in both}
        shared += len(both)
    return shared


class Conversation:
    """A sequence that is kept, forgotten and restored, again and again."""

    def __init__(self, family: str, bits: int) -> None:
        self.executor, self.spec = quantised(family, bits)
        self.driver = Driver(self.executor)
        self.prompt = make_prompt(2 * BLOCK_SIZE)

    def first(self, end: int) -> KeptBlock:
        self.executor.attach(A, (), (), GREEDY)
        return self._go_on(0, end)

    def again(self, blocks: list[KeptBlock], used: int, end: int) -> KeptBlock:
        """Restore the first `used` tokens of blocks, go on to `end`, keep the last block."""
        blocks = [through_bytes(self.executor, self.executor, block) for block in blocks]
        pieces = attached(rule_of(self.executor), blocks, used)
        self.executor.attach(A, self.prompt[:used], pieces, GREEDY)
        return self._go_on(used, end)

    def _go_on(self, begin: int, end: int) -> KeptBlock:
        if begin < end:
            self.driver.prefill(A, self.prompt[begin:end])
        start = (end - 1) // BLOCK_SIZE * BLOCK_SIZE
        block = keep(self.executor, A, start, end)
        self.executor.release(A)
        return block


@EACH_PRECISION
@EACH_FAMILY
class TestEveryFamily:
    def test_parts_come_back_bit_for_bit_and_are_as_large_as_said(
        self, family: str, bits: int
    ) -> None:
        executor, spec = quantised(family, bits)
        Driver(executor).start(A, make_prompt(WINDOW + 9))
        for kind, handle in keep(executor, A, 0, WINDOW + 9).kinds.items():
            tensors = executor.export(handle)
            returned = executor.import_part(kind, tensors, WINDOW + 9)
            assert executor.export(returned) == tensors
            assert handle.nbytes == returned.nbytes == sum(len(one.data) for one in tensors)
            assert handle.nbytes == spec.nbytes(kind, WINDOW + 9)

    def test_a_grown_tail_takes_over_the_rows_it_began_with(self, family: str, bits: int) -> None:
        talk = Conversation(family, bits)
        tail = talk.first(100)
        grown = talk.again([tail], 100, BLOCK_SIZE)
        before = attention_rows(talk.executor, tail)
        assert assert_taken_over(attention_rows(talk.executor, grown), before) > 0

    def test_restored_from_memory_or_from_bytes_it_answers_the_same(
        self, family: str, bits: int
    ) -> None:
        executor, _ = quantised(family, bits)
        prompt, position = make_prompt(WINDOW + 13), WINDOW + 8
        driver = Driver(executor)
        executor.attach(A, (), (), GREEDY)
        driver.prefill(A, prompt[:position])
        block = keep(executor, A, 0, position)
        executor.release(A)
        runs = []
        for used in (block, through_bytes(executor, executor, block)):
            driver.start(B, prompt, blocks=attached(rule_of(executor), [used], position))
            driver.steps(6)
            left = exported(executor, keep(executor, B, 0, len(prompt) + 6))
            runs.append((left, driver.release(B)))
        assert runs[0] == runs[1]

    def test_predictions_stay_close_to_those_from_unquantised_kv(
        self, family: str, bits: int
    ) -> None:
        prompt = make_prompt(120)
        found = scores(wide_model(family), prompt[:80], prompt[80:], (0, bits))
        assert 0 < found[bits].divergence / 40 < DIVERGENCE[bits] * AMPLIFIED.get(family, 1)


@EACH_FAMILY
def test_unquantised_families_are_refused_where_heads_are_too_narrow(family: str) -> None:
    """The same families as tiny as other tests have them."""
    spec = random_models.capabilities(random_models.make_model(FAMILIES[family])).spec
    assert spec is not None
    width = next(width for width in spec.widths if width % 32)
    with pytest.raises(IncompatibleCacheError, match=str(width)):
        in_bits(spec, 8)


LAYERS: Final = ("llama", "gemma3_text", "qwen3_next")
"""Full attention, with windows, with states."""


@pytest.mark.parametrize("family", LAYERS)
def test_states_are_kept_as_they_are(family: str) -> None:
    model = wide_model(family)
    plain = MlxExecutor(model, random_models.capabilities(model))
    states = []
    for executor in (plain, quantised(family, 8)[0]):
        Driver(executor).start(A, make_prompt(30))
        states.append(exported(executor, keep(executor, A, 0, 30)).get(PartKind.STATE))
    assert states[0] == states[1]
    assert (states[0] is not None) == (family == "qwen3_next")


@pytest.mark.parametrize("family", LAYERS)
def test_fifty_rounds_of_one_token_change_no_earlier_row(family: str) -> None:
    talk = Conversation(family, 4)
    block = talk.first(20)
    first = attention_rows(talk.executor, block)
    for end in range(21, 71):
        before = attention_rows(talk.executor, block)
        block = talk.again([block], end - 1, end)
        after = attention_rows(talk.executor, block)
        assert assert_taken_over(after, before) >= len(before[PartKind.FULL])
    assert assert_taken_over(after, first) >= len(first[PartKind.FULL])


@pytest.mark.parametrize("family", ["llama", "gpt_oss"])
def test_rows_are_taken_over_behind_whole_blocks(family: str) -> None:
    """And with a window that reaches from one block into the one before."""
    talk = Conversation(family, 8)
    whole = talk.first(BLOCK_SIZE)
    tail = talk.again([whole], BLOCK_SIZE, BLOCK_SIZE + 10)
    longer = talk.again([whole, tail], BLOCK_SIZE + 10, BLOCK_SIZE + 60)
    last = talk.again([whole, longer], BLOCK_SIZE + 60, 2 * BLOCK_SIZE)
    seen = [attention_rows(talk.executor, block) for block in (tail, longer, last)]
    assert assert_taken_over(seen[1], seen[0]) >= 10
    assert assert_taken_over(seen[2], seen[1]) >= 60


def test_of_a_block_used_in_part_that_part_is_taken_over() -> None:
    talk = Conversation("llama", 8)
    whole = talk.first(BLOCK_SIZE)
    branch = talk.again([whole], 100, 130)
    rows_of_whole = attention_rows(talk.executor, whole)[PartKind.FULL]
    taken = {key: row for key, row in rows_of_whole.items() if key[2] < 100}
    after = attention_rows(talk.executor, branch)
    assert assert_taken_over(after, {PartKind.FULL: taken}) == len(taken)


def test_what_was_restored_is_sealed_as_it_was() -> None:
    """Nothing new: the same parts again."""
    for family in LAYERS:
        talk = Conversation(family, 8)
        tail = talk.first(40)
        same = talk.again([tail], 40, 40)
        assert exported(talk.executor, same) == exported(talk.executor, tail)


def test_whole_blocks_that_a_sequence_began_with_are_not_quantised_again() -> None:
    talk = Conversation("gemma3_text", 8)
    whole = talk.first(BLOCK_SIZE)
    pieces = attached(rule_of(talk.executor), [whole], BLOCK_SIZE)
    talk.executor.attach(A, talk.prompt[:BLOCK_SIZE], pieces, GREEDY)
    for kind in (PartKind.FULL, PartKind.SLIDING):
        assert talk.executor.seal(A, 0, BLOCK_SIZE, kind) is None
    talk.driver.prefill(A, talk.prompt[BLOCK_SIZE : BLOCK_SIZE + 5])
    assert talk.executor.seal(A, 10, BLOCK_SIZE + 5, PartKind.FULL) is None
    assert talk.executor.seal(A, BLOCK_SIZE, BLOCK_SIZE + 5, PartKind.TAIL) is not None


def test_a_number_used_again_has_no_past() -> None:
    """Else rows of another sequence would be taken for its own."""
    talk = Conversation("llama", 8)
    tail = talk.first(40)
    expected = exported(talk.executor, tail)
    talk.prompt = make_prompt(2 * BLOCK_SIZE, seed=1)
    other = talk.first(40)
    talk.again([other], 40, 50)
    talk.prompt = make_prompt(2 * BLOCK_SIZE)
    assert exported(talk.executor, talk.first(40)) == expected


@pytest.mark.parametrize("family", LAYERS)
def test_rows_are_taken_over_in_a_batch_with_others(family: str) -> None:
    talk = Conversation(family, 8)
    executor, driver = talk.executor, talk.driver
    tail = talk.first(40)
    driver.start(B, make_prompt(90, seed=2))
    pieces = attached(rule_of(executor), [tail], 40)
    driver.start(A, talk.prompt[:50], blocks=pieces)
    driver.steps(12)
    grown = keep(executor, A, 0, 62)
    assert assert_taken_over(attention_rows(executor, grown), attention_rows(executor, tail)) > 0


def test_precisions_do_not_read_one_another() -> None:
    specs: list[ModelCacheSpec] = []
    parts = []
    executors = [MlxExecutor(wide_model("llama"), random_models.capabilities(wide_model("llama")))]
    executors += [quantised("llama", bits)[0] for bits in (8, 4)]
    for executor in executors:
        Driver(executor).start(A, make_prompt(8))
        parts.append(exported(executor, keep(executor, A, 0, 8))[PartKind.TAIL])
        assert executor.capabilities.spec is not None
        specs.append(executor.capabilities.spec)
    for reader, executor in enumerate(executors):
        for writer, tensors in enumerate(parts):
            if reader != writer:
                with pytest.raises(IncompatibleCacheError):
                    executor.import_part(PartKind.TAIL, tensors, 8)
    assert len(set(specs)) == 3


@EACH_PRECISION
def test_rows_are_near_what_they_were_made_of(bits: int) -> None:
    model = wide_model("llama")
    plain = MlxExecutor(model, random_models.capabilities(model))
    quantising, spec = quantised("llama", bits)
    kept = []
    for executor in (plain, quantising):
        Driver(executor).start(A, make_prompt(30))
        handle = executor.seal(A, 0, 30, PartKind.TAIL)
        assert handle is not None
        kept.append(handle)
    ((layer, places),) = spec.groups(PartKind.FULL)
    assert isinstance(layer, AttentionLayer)
    for name in ("keys.0", "values.0"):
        for place in range(len(places)):
            exact, near = (handle.rows(name, place, slice(30)) for handle in kept)
            assert near.shape == exact.shape
            assert near.dtype == exact.dtype
            step = (exact.max() - exact.min()) / (2**bits - 1)
            assert float(abs(near - exact).max()) <= float(step)


def test_widened_families_have_whole_groups() -> None:
    assert {spec.group_size for _, spec in (quantised(family, 8) for family in PROMISED)} == {32}
    assert widened(FAMILIES["gemma3"])["text_config"]["head_dim"] == 32

"""Choosing tokens: one call for all rows of a batch, each with its own settings and random key.

A row's choice depends on its own logits, settings and number of tokens drawn, so neighbours change
nothing. What is drawn is the largest of log-probability plus Gumbel noise, which differences in
the last bits of logits hardly ever change. Only what a row asks for is computed.

A row that is held to a form chooses among the tokens that its mask allows, whatever else limits it.
Masks are made on the CPU while the device computes logits; a batch without any waits for nothing.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from secrets import randbits
from typing import Final

import mlx.core as mx
import numpy as np

from semantic.adapters.outbound.mlx.masks import masked
from semantic.domain.errors import EngineError
from semantic.domain.ids import SequenceId, TokenId
from semantic.domain.sampling import SEED_BITS, SamplingParams, draw_key
from semantic.ports.answer_constraints import TokenMask

_WORD: Final = 2**32
_LEAST: Final = 1e-6
"""Taken for smaller temperatures, which would leave no finite logit in float32 and so choose
anything; this one already leaves the best alone."""
_CANDIDATES: Final = 1024
"""Tokens looked at first on a CPU, where sorting a whole vocabulary takes a third of a step."""
_MORE: Final = 8
"""So many times the candidates are looked at next, where those were not enough."""
_SMALLEST: Final = 2.0**-126
"""Taken for a random number of zero, whose noise would rule out the only token that is allowed."""


@dataclass(slots=True)
class _Draws:
    """One sequence's settings; `number` tokens of its answer have been drawn.

    What may be drawn next is told by the `mask`, if there is one, which has accepted all but the
    last token that was `chosen` here.
    """

    params: SamplingParams
    seed: int
    number: int
    mask: TokenMask | None = None
    chosen: bool = False

    @property
    def temperature(self) -> float:
        return max(self.params.temperature, _LEAST)

    def next_key(self) -> tuple[int, int]:
        key = draw_key(self.seed, self.number)
        self.number += 1
        return divmod(key, _WORD)


class RowSampler:
    """mlx-lm's sampler for every sequence of an executor: one object, so it is called once a step.

    mlx-lm does not say whose rows it passes; `expect` must have said so before.
    """

    def __init__(self) -> None:
        self._draws: dict[SequenceId, _Draws] = {}
        self._rows: tuple[SequenceId, ...] = ()
        self._previous: Callable[[], Sequence[TokenId]] = tuple

    def add(
        self,
        sequence: SequenceId,
        params: SamplingParams,
        drawn: int,
        mask: TokenMask | None = None,
    ) -> None:
        """Make a sequence known, with `drawn` tokens of its answer there already.

        The `mask` has accepted those.
        """
        seed = randbits(SEED_BITS) if params.seed is None else params.seed
        self._draws[sequence] = _Draws(params, seed, drawn, mask)

    def forget(self, sequence: SequenceId) -> None:
        """Forget a sequence. Unknown ones are ignored."""
        self._draws.pop(sequence, None)

    def clear(self) -> None:
        """Forget all sequences."""
        self._draws.clear()

    def params(self, sequence: SequenceId) -> SamplingParams:
        """The settings of a known sequence."""
        return self._draws[sequence].params

    def expect(
        self, sequences: Iterable[int], previous: Callable[[], Sequence[TokenId]] = tuple
    ) -> None:
        """The rows of the next call are these sequences', in this order.

        `previous` gives the tokens that were chosen for them last, and waits for these; it is only
        asked where somebody wants to know.
        """
        self._rows = tuple(SequenceId(sequence) for sequence in sequences)
        self._previous = previous

    def __call__(self, logprobs: mx.array) -> mx.array:
        """From log-probabilities (rows, vocabulary) to tokens (rows,)."""
        if len(self._rows) != logprobs.shape[0]:
            raise ValueError(f"{logprobs.shape[0]} rows to choose for, not {len(self._rows)}")
        draws = [self._draws[sequence] for sequence in self._rows]
        if any(one.mask is not None for one in draws):
            logprobs = self._masked(logprobs, draws)
        chosen = mx.argmax(logprobs, axis=-1)
        warm = [row for row, one in enumerate(draws) if not one.params.greedy]
        free = [row for row in warm if not draws[row].params.limits]
        limited = [row for row in warm if draws[row].params.limits]
        for rows, draw in ((free, _drawn), (limited, _drawn_within_limits)):
            if rows:
                at = mx.array(rows)
                # Of most batches all rows are alike, and gathering copies.
                taken = logprobs if len(rows) == len(draws) else logprobs[at]
                chosen[at] = draw(taken, [draws[row] for row in rows])
        return chosen

    def _masked(self, logprobs: mx.array, draws: Sequence[_Draws]) -> mx.array:
        # The device is at work while the masks are made.
        mx.async_eval(logprobs)  # type: ignore[no-untyped-call] # mlx is untyped here
        previous = self._previous() if any(one.chosen for one in draws if one.mask) else ()
        allowed = []
        for row, (sequence, one) in enumerate(zip(self._rows, draws, strict=True)):
            try:
                allowed.append(_allowed(one, previous[row] if one.mask and one.chosen else None))
            except Exception as error:
                message = f"an answer cannot be held to its form: {error}"
                raise EngineError(message, suspects=(sequence,)) from error
        return masked(logprobs, allowed)


def _allowed(draws: _Draws, previous: TokenId | None) -> bytes | None:
    """What a row may choose from, after the token that it chose last."""
    if draws.mask is None:
        return None
    if previous is not None:
        draws.mask.accept(previous)
    draws.chosen = True
    return draws.mask.allowed()


def _drawn(logprobs: mx.array, draws: Sequence[_Draws]) -> mx.array:
    """Tokens (rows,) drawn from all."""
    noise = _gumbel(_uniform(draws, logprobs.shape[-1]))
    return mx.argmax(_cooled(logprobs, draws) + noise, axis=-1)


def _drawn_within_limits(logprobs: mx.array, draws: Sequence[_Draws]) -> mx.array:
    """Tokens (rows,) drawn from those that top_k, top_p and min_p leave."""
    vocabulary = logprobs.shape[-1]
    cooled = _cooled(logprobs, draws)
    uneven = [
        one.params.top_p < 1 and (one.temperature != 1 or one.mask is not None) for one in draws
    ]
    if any(uneven):
        # A row that does not need it stays as it is to the last bit, whoever its neighbours are.
        sums = mx.logsumexp(cooled, axis=-1, keepdims=True)
        cooled = cooled - mx.where(mx.array(uneven)[:, None], sums, 0)
    count = vocabulary
    if mx.default_device() == mx.cpu:
        # All that top_k leaves must be there: top_p is a share of their sum.
        count = min(vocabulary, max(_CANDIDATES, *(one.params.top_k or 0 for one in draws)))
    return _drawn_among(cooled, _uniform(draws, vocabulary), draws, count)


def _drawn_among(
    cooled: mx.array, uniform: mx.array, draws: Sequence[_Draws], count: int
) -> mx.array:
    """Tokens (rows,) drawn from the `count` best, or from more where those are not all."""
    tokens, scores = _best(cooled, count)
    kept = _kept(scores, draws)
    noise = _gumbel(mx.take_along_axis(uniform, tokens, axis=-1))
    rank = mx.argmax(mx.where(kept, scores + noise, -mx.inf), axis=-1, keepdims=True)
    chosen = mx.take_along_axis(tokens, rank, axis=-1)[:, 0]
    if count < cooled.shape[-1]:
        # Whether there are more behind the candidates shows only once they have been computed.
        short = [row for row, last in enumerate(np.array(kept[:, -1])) if last]
        if short:
            at, rest = mx.array(short), [draws[row] for row in short]
            more = min(_MORE * count, cooled.shape[-1])
            chosen[at] = _drawn_among(cooled[at], uniform[at], rest, more)
    return chosen


def _cooled(logprobs: mx.array, draws: Sequence[_Draws]) -> mx.array:
    # Half types would overflow: 7 / 0.0001 is no float16.
    return logprobs.astype(mx.float32) / mx.array([[one.temperature] for one in draws])


def _best(scores: mx.array, count: int) -> tuple[mx.array, mx.array]:
    """The `count` best tokens of each row and their scores, in descending order."""
    if count < scores.shape[-1]:
        tokens = mx.argpartition(-scores, count - 1, axis=-1)[:, :count]
        best = mx.take_along_axis(scores, tokens, axis=-1)
        order = mx.argsort(-best, axis=-1)
        return mx.take_along_axis(tokens, order, axis=-1), mx.take_along_axis(best, order, axis=-1)
    tokens = mx.argsort(-scores, axis=-1)
    return tokens, mx.take_along_axis(scores, tokens, axis=-1)


def _kept(scores: mx.array, draws: Sequence[_Draws]) -> mx.array:
    """Which candidates may be drawn; `scores` descend, and are log-probabilities where top_p is.

    top_p looks at what top_k has left, which sums to one again. The best is always kept.
    """
    count = scores.shape[-1]
    params = [one.params for one in draws]
    rank = mx.arange(count)[None]
    kept = rank < mx.array([[min(one.top_k or count, count)] for one in params])
    if any(one.top_p < 1 for one in params):
        masses = mx.where(kept, mx.exp(scores), 0)
        sums = mx.cumsum(masses, axis=-1)
        whole = mx.array([[one.top_k is None] for one in params])
        total = mx.where(whole, 1, sums[:, -1:])
        # A nucleus of all is no nucleus: sums that round below one must not end it.
        share = mx.array([[one.top_p if one.top_p < 1 else math.inf] for one in params])
        kept = kept & (sums - masses < share * total)
    if any(one.min_p > 0 for one in params):
        least = mx.array([[math.log(one.min_p) if one.min_p else -math.inf] for one in params])
        kept = kept & (scores >= scores[:, :1] + least)
    return kept | (rank == 0)


def _uniform(draws: Sequence[_Draws], size: int) -> mx.array:
    """Numbers in [0, 1), (rows, size), of each row's next key alone."""
    keys = mx.array([one.next_key() for one in draws], mx.uint32)
    numbers: mx.array = mx.vmap(lambda key: mx.random.uniform(shape=(size,), key=key))(keys)
    return numbers


def _gumbel(uniform: mx.array) -> mx.array:
    return -mx.log(-mx.log(mx.maximum(uniform, _SMALLEST)))

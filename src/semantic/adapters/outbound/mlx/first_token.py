"""From prefill to the first token of an answer.

mlx-lm computes a prompt's last token apart from those before it, which spares their logits. A short
turn behind a long history gets its answer sooner in one pass over the weights than in two: ADR-015.
"""

from collections.abc import Sequence

import mlx.core as mx
from mlx_lm.generate import GenerationBatch, PromptProcessingBatch
from mlx_lm.models.cache import BatchRotatingKVCache

from semantic.adapters.outbound.mlx.batch_caches import leaves
from semantic.domain.ids import TokenId

AT_ONCE = 32
"""Tokens at most that are computed in one pass; of a large vocabulary, 20 MB of logits in float32.

Fewer than those by which the rate of prefill is measured: the pass is not waited for.
"""


def begin(batch: PromptProcessingBatch, tokens: Sequence[TokenId]) -> GenerationBatch:
    """Compute the last chunk of the batch's only sequence, and choose the first token."""
    started: GenerationBatch
    *before, last = tokens
    if not before or len(tokens) > AT_ONCE:
        started = batch.generate([list(tokens)])
        return started
    model = batch.model

    def with_those_before(inputs: mx.array, cache: list[object]) -> mx.array:
        logits: mx.array = model(mx.concatenate([mx.array([before]), inputs], axis=1), cache=cache)
        return logits

    batch.model = with_those_before
    # mlx-lm's list of what the caches hold, by which penalties go too.
    batch.tokens[0] += before
    started = batch.generate([[last]])
    started.model = model
    for cache in leaves(started.prompt_cache):
        if isinstance(cache, BatchRotatingKVCache):
            _narrow(cache)
    return started


def _narrow(cache: BatchRotatingKVCache) -> None:
    """Leave a window as a pass over one token does: no wider than `max_size`.

    What joins a batch while it is wider makes mlx-lm put zeros before the others' windows, where
    their `left_padding` does not tell of them.
    """
    keys, values, offset, padding, size, total, end, rotated = cache.state
    surplus = end - size
    if surplus > 0 and not rotated:
        kept = keys[..., surplus:, :], values[..., surplus:, :]
        cache.state = (*kept, offset, padding - surplus, size, total, size, rotated)

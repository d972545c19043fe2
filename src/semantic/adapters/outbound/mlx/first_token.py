"""From prefill to the first token of an answer.

mlx-lm computes a prompt's last token apart from those before it, which spares their logits. A short
turn behind a long history gets its answer sooner in one pass over the weights than in two: ADR-015.
"""

from collections.abc import Sequence

import mlx.core as mx
from mlx_lm.generate import GenerationBatch, PromptProcessingBatch

from semantic.domain.ids import TokenId

AT_ONCE = 64
"""Tokens at most that are computed in one pass; of a large vocabulary, 40 MB of logits."""


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
    return started

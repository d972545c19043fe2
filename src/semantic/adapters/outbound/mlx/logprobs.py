"""Log-probabilities of chosen tokens and of the most likely ones in their place."""

from collections.abc import Sequence

import mlx.core as mx

from semantic.domain.ids import TokenId
from semantic.domain.sampling import TokenLogprobs


def token_logprobs(logprobs: mx.array, token: TokenId, count: int) -> TokenLogprobs:
    """What `logprobs` (vocabulary,) say of `token` and of the `count` most likely ones.

    Equally likely tokens come in the order of their ids.
    """
    chosen = float(logprobs[token].item())  # type: ignore[arg-type] # a real number
    size = min(count, logprobs.shape[-1])
    if not size:
        return TokenLogprobs(chosen)
    best = mx.argpartition(-logprobs, size - 1)[:size]
    tokens: Sequence[int] = best.tolist()  # type: ignore[assignment] # one axis
    scores: Sequence[float] = logprobs[best].tolist()  # type: ignore[assignment] # one axis
    ranked = sorted(zip(tokens, scores, strict=True), key=lambda pair: (-pair[1], pair[0]))
    return TokenLogprobs(chosen, tuple(ranked))

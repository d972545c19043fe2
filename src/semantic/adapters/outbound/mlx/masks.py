"""Which tokens may come next, row by row, from the CPU's bits to the device."""

from collections.abc import Sequence
from typing import Final

import mlx.core as mx
import numpy as np

_LEAST_LOGPROB: Final = -1e20
"""An allowed token has this at least: one whose logit is minus infinity stays above the others."""


def masked(logprobs: mx.array, allowed: Sequence[bytes | None]) -> mx.array:
    """Log-probabilities (rows, vocabulary), minus infinity where a row's bits do not allow.

    Rows without bits stay as they are, to the last one; bits that are missing allow nothing.
    """
    vocabulary = logprobs.shape[-1]
    packed = np.zeros((len(allowed), -(-vocabulary // 8)), np.uint8)
    for row, bits in enumerate(allowed):
        if bits is None:
            packed[row] = 0xFF
        else:
            told = np.frombuffer(bits, np.uint8)[: packed.shape[1]]
            packed[row, : len(told)] = told
    spread = (mx.array(packed)[:, :, None] >> mx.arange(8, dtype=mx.uint8)) & 1
    may = spread.reshape(len(allowed), -1)[:, :vocabulary] == 1
    held = mx.array([[bits is not None] for bits in allowed])
    possible = mx.where(held, mx.maximum(logprobs, _LEAST_LOGPROB), logprobs)
    return mx.where(may, possible, -mx.inf)

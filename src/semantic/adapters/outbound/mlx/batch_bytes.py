"""What batches take of the device's memory, and how that is kept low.

mlx-lm joins and filters batches lazily: computed all at once, the old and the new buffers of every
layer would be there together. Computed one layer after the other, only one layer's are.

    |padding|p0 p1 ... pn|room|      a row, as long as the longest, and with room to grow
"""

from collections.abc import Iterable, Sequence
from typing import Final

import mlx.core as mx

from semantic.adapters.outbound.mlx.batch_caches import Cache, leaves
from semantic.domain.cache_spec import AttentionLayer, LayerSpec, ModelCacheSpec

_STEP: Final = 256
"""Tokens by which mlx-lm's caches grow; pinned by a test."""

_COPIES: Final = 2
"""Further copies of a layer's buffers while they are joined: the old ones, and both padded."""


def batch_bytes(spec: ModelCacheSpec, rows: Sequence[int], chunk: int) -> int:
    """Bytes that a batch takes at most whose rows hold so many tokens each.

    `chunk`: the most tokens that are prefilled at once.
    """
    if not rows:
        return 0
    longest = max(rows)
    layers = [_row_bytes(layer, longest, chunk) for layer in spec.layers]
    return len(rows) * (sum(layers) + _COPIES * max(layers, default=0))


def held_bytes(caches: Iterable[Cache]) -> int:
    """Bytes that a batch takes now."""
    return sum(int(leaf.nbytes) for leaf in leaves(caches))


def settle(caches: Iterable[Cache], joined: Iterable[Cache] = ()) -> None:
    """Compute what joining or filtering a batch has left to do, one layer after the other.

    Of what was `joined` nothing is held any more.
    """
    others = list(leaves(joined))
    for number, leaf in enumerate(leaves(caches)):
        if isinstance(getattr(leaf, "keys", None), mx.array):
            # A filtered batch is cut by a view, which would hold the whole buffer.
            leaf.keys, leaf.values = mx.contiguous(leaf.keys), mx.contiguous(leaf.values)
        mx.eval(leaf.state)
        if others:
            _let_go(others[number])


def _let_go(leaf: Cache) -> None:
    if hasattr(leaf, "keys"):
        leaf.keys = leaf.values = None


def _row_bytes(layer: LayerSpec, tokens: int, chunk: int) -> int:
    """Bytes of one row of a layer's buffers, with room."""
    if not isinstance(layer, AttentionLayer):
        return layer.nbytes
    room = (tokens // _STEP + 2) * _STEP
    if layer.window is not None:
        # A chunk stays, with the window before it, until the next one has been computed; and what
        # was cut out of that window is held, until no resume point can need it any more.
        room = min(room, layer.window + chunk) + min(tokens, layer.window)
    return layer.nbytes(room)

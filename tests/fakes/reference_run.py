"""Answers held against a run that nothing interrupted: the equality promise, part (c).

The model alone, a batch of one, reads what was asked and what was answered. At every generated
position the token that was chosen must be the best, or so close to it that rounding may choose.
Import it after the BLAS has been chosen.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import mlx.core as mx
from mlx_lm.models.cache import make_prompt_cache, trim_prompt_cache

from semantic.adapters.outbound.mlx.model_loader import load_weights
from semantic.domain.agent import Branch
from semantic.domain.ids import TokenId
from semantic.domain.prefix_index import common_length

BOUND = 1e-3
"""Of two logits in float32, between which the shape of the work may decide: fixed beforehand. The
default model's differ by some 4e-5 between a batch and a run alone (EXP-003)."""
_CHUNK = 256


class ReferenceRun:
    """Reads one conversation after the other, whose common beginnings it reads once."""

    def __init__(self, model: Path) -> None:
        self._model, _ = load_weights(model)
        self._cache = make_prompt_cache(self._model)
        self._read: tuple[TokenId, ...] = ()
        self._behind: list[float] = []
        """Of each token that was read: how far its logit lay behind the best."""

    def worst(self, branch: Branch) -> float:
        """How far the generated token that is least right lies behind the best."""
        behind = self.behind(branch.ids)
        return max((behind[position] for position in generated(branch)), default=0.0)

    def behind(self, ids: Sequence[TokenId]) -> Sequence[float]:
        """How far each token's logit lies behind the best at its place; 0 of the first."""
        # The last token that is known is read again: its logits say what comes next.
        known = max(0, min(common_length(tuple(ids), self._read), len(ids) - 1) - 1)
        trim_prompt_cache(self._cache, len(self._read) - known)
        self._behind = self._behind[: known + 1] or [0.0]
        for begin in range(known, len(ids), _CHUNK):
            self._read_chunk(ids[begin : begin + _CHUNK], ids[begin + 1 : begin + _CHUNK + 1])
        self._read = tuple(ids)
        return self._behind[: len(ids)]

    def _read_chunk(self, chunk: Sequence[TokenId], following: Sequence[TokenId]) -> None:
        (logits,) = self._model(mx.array([list(chunk)]), cache=self._cache)
        logits = logits[: len(following)]
        chosen = mx.take_along_axis(logits, mx.array(list(following))[:, None], axis=1)[:, 0]
        behind = logits.max(axis=1) - chosen
        self._behind.extend(float(number) for number in behind.tolist())


def generated(branch: Branch) -> Iterable[int]:
    """The positions that were generated: every second segment of a branch was."""
    position = 0
    for number, segment in enumerate(branch.segments):
        if number % 2:
            yield from range(position, position + len(segment.ids))
        position += len(segment.ids)

"""How well a model foretells known tokens after a prefix that was restored from kept KV.

The prefix is computed once, in chunks of a block, and kept in several precisions; what is restored
has gone through bytes. Nothing here chooses a token: the model is given the text's own.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import mlx.core as mx
from mlx_lm.models.cache import make_prompt_cache

from semantic.adapters.outbound.mlx.batch_caches import SequenceCaches
from semantic.adapters.outbound.mlx.cache_probe import probe
from semantic.adapters.outbound.mlx.kv_bits import in_bits
from semantic.adapters.outbound.mlx.kv_part import KVPart, from_tensors, to_tensors
from semantic.adapters.outbound.mlx.restored_caches import Piece, restore
from semantic.domain.block import PartKind
from semantic.domain.cache_spec import BLOCK_SIZE, ModelCacheSpec

Model: TypeAlias = Any
"""An mlx-lm network, which is untyped."""


@dataclass(frozen=True, slots=True)
class Score:
    """Of some tokens: how surprising they were in all, in nats, and the comparison to none.

    `divergence` is the sum of KL(unquantised || this), `agreed` counts equal first choices.
    """

    tokens: int
    surprise: float
    divergence: float
    agreed: int

    def __add__(self, other: "Score") -> "Score":
        return Score(
            self.tokens + other.tokens,
            self.surprise + other.surprise,
            self.divergence + other.divergence,
            self.agreed + other.agreed,
        )


def spec_of(model: Model, bits: int) -> ModelCacheSpec:
    """The model's caches, kept in so many bits; 0 keeps them as the model computes them."""
    found = probe(model)
    if found is None:
        raise ValueError("this model's KV cannot be kept")
    return in_bits(found, bits) if bits else found


def scores(
    model: Model, prefix: Sequence[int], text: Sequence[int], precisions: Sequence[int]
) -> Mapping[int, Score]:
    """What each precision makes of `text` after `prefix`; the first one is compared with."""
    specs = {bits: spec_of(model, bits) for bits in precisions}
    kept = _kept(model, prefix, specs)
    reference: mx.array | None = None
    found = {}
    for bits, spec in specs.items():
        caches = restore(make_prompt_cache(model), kept[bits], spec)
        logits = model(mx.array([[prefix[-1], *text[:-1]]]), cache=caches)[0]
        predicted = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
        mx.eval(predicted)
        reference = predicted if reference is None else reference
        found[bits] = _score(predicted, reference, text)
    return found


def _score(predicted: mx.array, reference: mx.array, text: Sequence[int]) -> Score:
    hit = mx.take_along_axis(predicted, mx.array(list(text))[:, None], axis=-1)
    divergence = (mx.exp(reference) * (reference - predicted)).sum()
    agreed = (predicted.argmax(-1) == reference.argmax(-1)).sum()
    return Score(len(text), -float(hit.sum()), float(divergence), int(agreed))


def _kept(
    model: Model, prefix: Sequence[int], specs: Mapping[int, ModelCacheSpec]
) -> Mapping[int, list[Piece]]:
    """Blocks of all but the prefix's last token, in each precision."""
    caches = [type(cache).merge([cache]) for cache in make_prompt_cache(model)]
    kept: dict[int, list[Piece]] = {bits: [] for bits in specs}
    end = len(prefix) - 1
    for start, stop in pairwise([*range(0, end, BLOCK_SIZE), end]):
        model(mx.array([prefix[start:stop]]), cache=caches)
        mx.eval([cache.state for cache in caches])
        for bits, spec in specs.items():
            cut = SequenceCaches(caches, 0, stop, spec)
            kept[bits].append(_piece(cut, start, stop, spec))
    return kept


def _piece(cut: SequenceCaches, start: int, stop: int, spec: ModelCacheSpec) -> Piece:
    parts = dict(_parts(cut, start, stop, spec))
    return Piece(
        parts[PartKind.FULL],
        stop - start,
        parts.get(PartKind.SLIDING),
        parts.get(PartKind.STATE),
    )


def _parts(
    cut: SequenceCaches, start: int, stop: int, spec: ModelCacheSpec
) -> Iterator[tuple[PartKind, KVPart]]:
    for kind in (PartKind.FULL, *spec.resume_rule.extras):
        part = cut.cut(start, stop, kind)
        if part is not None:
            yield kind, from_tensors(kind, to_tensors(part), part.num_tokens, spec)

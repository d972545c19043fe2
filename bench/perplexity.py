"""What quantised KV costs: how well the model foretells real text that follows a restored prefix.

    python -m bench.perplexity

The model is restored from blocks of a prefix, kept as they are and in 8 and 4 bits, and given the
tokens that follow in the text. Reported are its perplexity on them, the ratio to that from
unquantised blocks, how far its predictions are from those (KL divergence, in nats a token), and how
often its first choice is the same. The text is Python's own language reference, which comes with
every interpreter.
"""

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from pydoc_data.topics import topics
from typing import Final

from semantic.adapters.config.sources import load_settings
from semantic.adapters.outbound.mlx import blas
from semantic.adapters.outbound.telemetry.structured_log import StructuredLog

PREFIX_TOKENS: Final = 1024
SCORED_TOKENS: Final = 512
PASSAGES: Final = 4
PRECISIONS: Final = (0, 8, 4)
"""Bits an element; 0 is as the model computes it."""


def passages(ids: Sequence[int], count: int, length: int) -> Iterator[Sequence[int]]:
    """Stretches of the text, as far apart as they can be."""
    apart = (len(ids) - length) // max(1, count - 1)
    for number in range(count):
        yield ids[number * apart : number * apart + length]


def main() -> int:
    """Print a table; the model is that of the settings."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--passages", type=int, default=PASSAGES)
    parser.add_argument("--prefix", type=int, default=PREFIX_TOKENS)
    parser.add_argument("--scored", type=int, default=SCORED_TOKENS)
    asked = parser.parse_args()
    settings = load_settings()
    cache_dir = settings.model.cache_path
    blas.preload(cache_dir, settings.engine.blas_threads)

    from bench.teacher_forcing import Score, scores, spec_of  # noqa: PLC0415 - after the BLAS

    from semantic.adapters.outbound.mlx.model_loader import load_weights  # noqa: PLC0415
    from semantic.adapters.outbound.mlx.model_source import resolve  # noqa: PLC0415
    from semantic.adapters.outbound.mlx.tokenizer import MlxTokenizer  # noqa: PLC0415

    source = resolve(settings.model.id, cache_dir, StructuredLog())
    model, _ = load_weights(source.path)
    ids = MlxTokenizer.load(source.path).encode("\n\n".join(topics[one] for one in sorted(topics)))
    total = dict.fromkeys(PRECISIONS, Score(0, 0.0, 0.0, 0))
    for passage in passages(ids, asked.passages, asked.prefix + asked.scored):
        prefix, text = passage[: asked.prefix], passage[asked.prefix :]
        for bits, score in scores(model, prefix, text, PRECISIONS).items():
            total[bits] += score

    print(
        f"{source.model_id}: {asked.passages} passages, {asked.scored} tokens after {asked.prefix}"
    )
    print("kv_bits  bytes/token  perplexity   ratio   KL nats/token  same first choice")
    unquantised = total[PRECISIONS[0]].surprise
    for bits, score in total.items():
        perplexity = math.exp(score.surprise / score.tokens)
        ratio = math.exp((score.surprise - unquantised) / score.tokens)
        print(
            f"{bits or 'none':>7}  {spec_of(model, bits).bytes_per_token:>11}  {perplexity:>10.4f}"
            f"  {ratio:>6.4f}  {score.divergence / score.tokens:>14.6f}"
            f"  {score.agreed / score.tokens:>17.2%}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())

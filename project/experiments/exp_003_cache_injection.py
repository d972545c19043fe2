"""EXP-003: can a cache be injected into a batch, and does the answer stay the same?

    .venv/bin/python project/experiments/exp_003_cache_injection.py

Exits with 1 if a claim fails. The findings are written up in EXP-003-cache-injection.md.
"""

import inspect
import time
from dataclasses import dataclass
from typing import Any

from setting import Claims, Setting, prepare

SETTING = prepare("EXP-003: cache injection")

# After the BLAS, which `prepare` loads.
import mlx.core as mx  # noqa: E402
from mlx_lm.generate import BatchGenerator, PromptProcessingBatch  # noqa: E402
from mlx_lm.models.cache import KVCache, QuantizedKVCache  # noqa: E402
from mlx_lm.sample_utils import greedy_sampler, make_logits_processors  # noqa: E402

from semantic.adapters.outbound.mlx import kv_block  # noqa: E402

REST, ANSWER = 24, 16
PREFIXES = (100, 256, 300)
PAIR = 2


@dataclass(frozen=True)
class Run:
    """An answer and the log-probabilities that it was chosen from."""

    tokens: list[int]
    logprobs: Any
    first_s: float = 0.0
    """Seconds to the first token, where they were taken."""

    def distance(self, other: "Run") -> float:
        """The largest difference of a log-probability."""
        return float(mx.max(mx.abs(self.logprobs - other.logprobs)).item())


def collect(generator: BatchGenerator, uid: int) -> Run:
    """Run until a sequence has ended."""
    responses: list[Any] = []
    start, first_s = time.perf_counter(), None
    while not responses or responses[-1].finish_reason is None:
        responses += [r for r in generator.next_generated() if r.uid == uid]
        first_s = first_s or time.perf_counter() - start
    logprobs = mx.stack([r.logprobs for r in responses])
    return Run([r.token for r in responses], logprobs, first_s or 0.0)


def uninterrupted(setting: Setting, segments: list[list[int]]) -> tuple[Run, list[KVCache]]:
    """One run over all segments; the cache as it was after the first."""
    generator = BatchGenerator(setting.model)
    (uid,) = generator.insert_segments([[list(segment) for segment in segments]], [ANSWER])
    while not any(r.end_of_segment for r in generator.next()[0]):
        pass
    caches, tokens = generator.extract_cache([uid])[uid]
    mx.eval([cache.state for cache in caches])
    if len(tokens) != len(segments[0]):
        message = f"the first segment holds {len(tokens)} tokens"
        raise RuntimeError(message)
    return collect(generator, uid), caches


def cold(setting: Setting, prompt: list[int]) -> Run:
    """The whole prompt at once."""
    generator = BatchGenerator(setting.model)
    (uid,) = generator.insert([list(prompt)], [ANSWER])
    return collect(generator, uid)


def injected(setting: Setting, prefix: list[int], rest: list[int], caches: list[KVCache]) -> Run:
    """Only the rest, behind an injected cache."""
    generator = BatchGenerator(setting.model)
    (uid,) = generator.insert([list(rest)], [ANSWER], caches=[caches], all_tokens=[list(prefix)])
    return collect(generator, uid)


def injected_below(
    setting: Setting, prefix: list[int], rest: list[int], caches: list[KVCache]
) -> Run:
    """The same without BatchGenerator, on the classes that the server uses."""
    batch = PromptProcessingBatch(
        setting.model,
        uids=[0],
        caches=[caches],
        tokens=[list(prefix)],
        samplers=[greedy_sampler],
        logits_processors=[[]],
    )
    started = batch.generate([list(rest)])
    responses = [started.next()[0] for _ in range(ANSWER)]
    return Run([r.token for r in responses], mx.stack([r.logprobs for r in responses]))


def through_blocks(prefix: list[int], caches: list[KVCache]) -> list[kv_block.RestoredKVCache]:
    """The cache cut into blocks of 256 and a tail, to bytes and back."""
    batch = [KVCache.merge([cache]) for cache in caches]
    bounds = [*range(0, len(prefix), 256), len(prefix)]
    pieces = []
    for start, end in zip(bounds, bounds[1:], strict=False):  # noqa: RUF007 - reads as it is
        block = kv_block.cut(batch, 0, start, end)
        parts = kv_block.to_parts(block)
        pieces.append((kv_block.KVBlock(*(kv_block._array(p) for p in parts)), end - start))  # noqa: SLF001 - its spec is the loader's
    return kv_block.restore(pieces)


def equality(setting: Setting, claims: Claims) -> None:
    """Each way of injecting, at several lengths."""
    for length in PREFIXES:
        prefix, rest = setting.tokens[:length], setting.tokens[length : length + REST]
        print(f"\nprefix of {length} tokens, {REST} more, {ANSWER} answered")
        reference, caches = uninterrupted(setting, [prefix, rest])
        whole = cold(setting, prefix + rest)
        before = [cache.offset for cache in caches]
        again = injected(setting, prefix, rest, caches)
        print(f"  first token after {whole.first_s:.2f} s cold, {again.first_s:.2f} s injected")
        claims.check(
            "BatchGenerator.insert(caches=...): the same tokens",
            holds=again.tokens == reference.tokens,
        )
        claims.check("... and bit-equal log-probabilities", holds=again.distance(reference) == 0)
        claims.check(
            "the injected cache is left as it was", holds=before == [c.offset for c in caches]
        )
        below = injected_below(setting, prefix, rest, caches)
        claims.check(
            "PromptProcessingBatch: the same tokens", holds=below.tokens == reference.tokens
        )
        claims.check("... and bit-equal log-probabilities", holds=below.distance(reference) == 0)
        blocks = injected_below(setting, prefix, rest, through_blocks(prefix, caches))
        claims.check(
            "through blocks of 256, as bytes: bit-equal", holds=blocks.distance(reference) == 0
        )
        claims.check(
            "a cold run of one chunk: the same tokens", holds=whole.tokens == reference.tokens
        )
        print(f"          its log-probabilities differ by at most {whole.distance(reference):.1e}")


def beside_others(setting: Setting, claims: Claims) -> None:
    """Injected while another sequence decodes: a ragged batch."""
    print("\nbeside a sequence that decodes")
    prefix, rest = setting.tokens[:100], setting.tokens[100 : 100 + REST]
    reference, caches = uninterrupted(setting, [prefix, rest])
    generator = BatchGenerator(setting.model)
    generator.insert([setting.tokens[200:230]], [ANSWER + 8])
    for _ in range(3):
        generator.next_generated()
    (uid,) = generator.insert([list(rest)], [ANSWER], caches=[caches], all_tokens=[list(prefix)])
    beside = collect(generator, uid)
    claims.check("the same tokens", holds=beside.tokens == reference.tokens)
    print(f"          log-probabilities differ by at most {beside.distance(reference):.1e}")


def all_tokens(setting: Setting, claims: Claims) -> None:
    """What `all_tokens` is for."""
    print("\nall_tokens")
    prefix, rest = setting.tokens[:100], setting.tokens[100 : 100 + REST]
    _, caches = uninterrupted(setting, [prefix, rest])
    penalty = make_logits_processors(repetition_penalty=1.5, repetition_context_size=4096)
    answers = {}
    known = list(prefix)
    for name, tokens, cached in (
        ("uninterrupted", None, None),
        ("given", known, caches),
        ("omitted", None, caches),
    ):
        generator = BatchGenerator(setting.model)
        (uid,) = generator.insert(
            [list(rest) if cached else prefix + rest],
            [ANSWER],
            caches=[cached] if cached else None,
            all_tokens=[tokens] if tokens is not None else None,
            logits_processors=[penalty],
        )
        answers[name] = collect(generator, uid).tokens
    claims.check(
        "given, a repetition penalty sees the prefix",
        holds=answers["given"] == answers["uninterrupted"],
    )
    claims.check(
        "omitted, the answer is another one", holds=answers["omitted"] != answers["uninterrupted"]
    )
    claims.check(
        "the list that was handed in has grown: hand in a copy", holds=len(known) > len(prefix)
    )


def interface(setting: Setting, claims: Claims) -> None:
    """What differs from mlx-lm 0.30.4."""
    print("\nthe interface, against 0.30.4")
    options = list(inspect.signature(BatchGenerator).parameters.values())[1:]
    claims.check(
        "the constructor takes options by keyword only",
        holds=all(o.kind is o.KEYWORD_ONLY for o in options),
    )
    stop = setting.tokens[10]
    generator = BatchGenerator(setting.model, stop_tokens=[[stop]])
    (uid,) = generator.insert([setting.tokens[:4]], [2])
    first = generator.next()
    claims.check(
        "next() returns (prompt responses, generation responses)",
        holds=isinstance(first, tuple) and len(first) == PAIR,
    )
    claims.check("a prompt response tells its progress", holds=first[0][0].progress == (3, 4))
    collect(generator, uid)
    reasons = []
    for bad in ({"max_tokens": 4}, {"max_tokens": [0]}):
        try:
            BatchGenerator(setting.model).insert([[1]], **bad)
        except (TypeError, ValueError) as error:
            reasons.append(type(error).__name__)
    claims.check("max_tokens is a list, and above 0", holds=reasons == ["TypeError", "ValueError"])
    try:
        BatchGenerator(setting.model).insert([[]], [1])
    except ValueError:
        claims.check("an empty prompt is refused: one token must be left to compute", holds=True)
    else:
        claims.check("an empty prompt is refused: one token must be left to compute", holds=False)
    quantised = [QuantizedKVCache() for _ in setting.model.layers]
    try:
        PromptProcessingBatch(setting.model, [0], [quantised])
    except ValueError as error:
        claims.check(f"quantised caches are refused: {error}", holds=True)
    else:
        claims.check("quantised caches are refused", holds=False)


def main() -> None:
    """Run all parts."""
    claims = Claims()
    equality(SETTING, claims)
    beside_others(SETTING, claims)
    all_tokens(SETTING, claims)
    interface(SETTING, claims)
    claims.finish()


if __name__ == "__main__":
    main()

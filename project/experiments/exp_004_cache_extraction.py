"""EXP-004: can each sequence's cache be taken out of a batch, kept in a file, and continued?

    .venv/bin/python project/experiments/exp_004_cache_extraction.py

Exits with 1 if a claim fails. The findings are written up in EXP-004-cache-extraction.md.
"""

import tempfile
from pathlib import Path
from typing import Any

from setting import Claims, Setting, prepare, timed

SETTING = prepare("EXP-004: per-sequence cache extraction")

# After the BLAS, which `prepare` loads.
import mlx.core as mx  # noqa: E402
import numpy as np  # noqa: E402
from mlx_lm.generate import BatchGenerator  # noqa: E402
from mlx_lm.models.cache import KVCache  # noqa: E402

PROMPTS = {0: (0, 40), 1: (40, 160), 2: (60, 330)}
"""Where in the text each of three prompts lies."""
LIMITS = {0: 12, 1: 4, 2: 8}
"""Tokens answered: they end at different times, and not in order."""
TURN, CONTINUATION = (200, 212), 8
TAKEN_AFTER = 4
"""Tokens of the answer after which a decoding sequence is taken out."""
PAIR = 2


def save(path: Path, caches: list[KVCache]) -> int:
    """Write what the caches hold, and no more; return the bytes."""
    arrays: dict[str, mx.array] = {}
    for layer, cache in enumerate(caches):
        keys, values = cache.keys_and_values()
        arrays |= {f"{layer}.keys": keys, f"{layer}.values": values}
    mx.save_safetensors(str(path), arrays)
    return path.stat().st_size


def load(path: Path) -> list[KVCache]:
    """The inverse of `save`, evaluated: `mx.load` is lazy."""
    arrays = mx.load(str(path))
    mx.eval(list(arrays.values()))
    caches = []
    for layer in range(len(arrays) // 2):
        cache = KVCache()
        keys, values = arrays[f"{layer}.keys"], arrays[f"{layer}.values"]
        cache.state = (keys, values, keys.shape[2])
        caches.append(cache)
    return caches


def same_bits(ours: list[KVCache], theirs: list[KVCache]) -> bool:
    """Whether two sets of caches hold the same bytes."""
    return all(
        np.array(one).tobytes() == np.array(other).tobytes()
        for left, right in zip(ours, theirs, strict=True)
        for one, other in zip(left.keys_and_values(), right.keys_and_values(), strict=True)
    )


def answer(
    setting: Setting, new: list[int], known: list[int], caches: list[KVCache], count: int
) -> list[int]:
    """Alone, behind an injected cache."""
    generator = BatchGenerator(setting.model, prefill_step_size=64)
    generator.insert([list(new)], [count], caches=[caches], all_tokens=[list(known)])
    tokens: list[int] = []
    while len(tokens) < count:
        tokens += [r.token for r in generator.next_generated()]
    return tokens


def on_completion(setting: Setting, claims: Claims, folder: Path) -> None:
    """Three sequences in one batch; each leaves with its cache when it ends."""
    print("\non completion")
    prompts = {uid: setting.tokens[slice(*bounds)] for uid, bounds in PROMPTS.items()}
    generator = BatchGenerator(setting.model)
    uids = generator.insert([list(p) for p in prompts.values()], list(LIMITS.values()))
    answers: dict[int, list[int]] = {uid: [] for uid in uids}
    finished: dict[int, Any] = {}
    order: list[int] = []
    with timed("three sequences, to the end of the last"):
        while len(finished) < len(uids):
            for response in generator.next_generated():
                answers[response.uid].append(response.token)
                if response.finish_reason:
                    finished[response.uid] = response
                    order.append(response.uid)
    claims.check("they end one by one, the shortest answer first", holds=order == [1, 2, 0])
    turn = setting.tokens[slice(*TURN)]
    for uid, response in finished.items():
        known = prompts[uid] + answers[uid]
        print(f" sequence {uid}: prompt of {len(prompts[uid])}, answer of {len(answers[uid])}")
        claims.check("all_tokens is prompt and answer", holds=response.all_tokens == known)
        claims.check(
            "every layer holds all of them, the last too",
            holds={c.offset for c in response.prompt_cache} == {len(known)},
        )
        alone = answer(setting, prompts[uid], [], None, LIMITS[uid])  # type: ignore[arg-type]
        claims.check("the answer is the one it gives alone", holds=answers[uid] == alone)
        path = folder / f"{uid}.safetensors"
        with timed("save"):
            size = save(path, response.prompt_cache)
        with timed(f"load ({size / 1e6:.1f} MB, {size // len(known)} bytes a token)"):
            loaded = load(path)
        claims.check("what was loaded is bit-equal", holds=same_bits(loaded, response.prompt_cache))
        warm = answer(setting, turn, known, response.prompt_cache, CONTINUATION)
        again = answer(setting, turn, known, loaded, CONTINUATION)
        cold = answer(setting, known + turn, [], None, CONTINUATION)  # type: ignore[arg-type]
        claims.check("a further turn continues from the file as from memory", holds=again == warm)
        claims.check("... and as if all had been read again", holds=again == cold)


def at_any_stage(setting: Setting, claims: Claims, folder: Path) -> None:
    """One sequence, taken out while it waits, in mid-prefill and while it decodes."""
    print("\nat any stage")
    prompt, count = setting.tokens[20:170], 10
    generator = BatchGenerator(setting.model, prefill_step_size=64)
    generator.insert([setting.tokens[:10]], [40])
    generator.next_generated()
    (uid,) = generator.insert([list(prompt)], [count])
    caches, tokens = generator.extract_cache([uid])[uid]
    claims.check(
        "waiting: an empty cache, no tokens", holds=tokens == [] and all(c.empty() for c in caches)
    )

    generator.next()
    caches, tokens = generator.extract_cache([uid])[uid]
    kept = list(tokens)
    claims.check(
        "mid-prefill: one chunk of 64 is in",
        holds=kept == prompt[:64] and {c.offset for c in caches} == {64},
    )
    save(folder / "prefill.safetensors", caches)

    straight: list[int] = []
    while len(straight) < TAKEN_AFTER:
        straight += [r.token for r in generator.next_generated() if r.uid == uid]
    caches, live = generator.extract_cache([uid])[uid]
    decoding = list(live)
    claims.check("decoding: prompt and every token returned", holds=decoding == prompt + straight)
    save(folder / "decode.safetensors", caches)
    while len(straight) < count:
        straight += [r.token for r in generator.next_generated() if r.uid == uid]
    claims.check("the list of tokens is the live one: copy it", holds=list(live) != decoding)

    resumed = answer(setting, prompt[64:], kept, load(folder / "prefill.safetensors"), count)
    claims.check("from mid-prefill, the answer is the same", holds=resumed == straight)
    loaded = load(folder / "decode.safetensors")
    for cache in loaded:
        cache.trim(1)  # a batch wants one token that it has not seen
    resumed = answer(setting, decoding[-1:], decoding[:-1], loaded, count - TAKEN_AFTER)
    claims.check(
        "from mid-answer, less one token fed again, too", holds=resumed == straight[TAKEN_AFTER:]
    )

    removed = generator.remove([0], return_prompt_caches=True)
    claims.check(
        "remove(return_prompt_caches=True) gives the same pair", holds=len(removed[0]) == PAIR
    )
    claims.check("an unknown sequence is ignored", holds=generator.extract_cache([99]) == {})


def damage(claims: Claims, folder: Path) -> None:
    """What a file does not tell."""
    print("\ndamage")
    path = folder / "0.safetensors"
    sound = load(path)
    data = bytearray(path.read_bytes())
    data[-3] ^= 0x40
    path.write_bytes(data)
    claims.check(
        "a flipped bit loads without a word: checksums are ours to keep",
        holds=not same_bits(load(path), sound),
    )
    path.write_bytes(data[:-100])
    try:
        load(path)
    except RuntimeError:
        claims.check("a file cut short is refused", holds=True)
    else:
        claims.check("a file cut short is refused", holds=False)


def main() -> None:
    """Run all parts."""
    claims = Claims()
    with tempfile.TemporaryDirectory(prefix="semantic-exp-004-") as name:
        folder = Path(name)
        on_completion(SETTING, claims, folder)
        at_any_stage(SETTING, claims, folder)
        damage(claims, folder)
    claims.finish()


if __name__ == "__main__":
    main()

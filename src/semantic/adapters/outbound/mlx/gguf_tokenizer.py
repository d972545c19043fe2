"""The tokenizer inside a GGUF file, as the files that a model folder holds.

Owns the translation of byte-level BPE. A tokenizer it does not know is refused: one that splits
a text differently gives a model that works, badly.
"""

import json
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE

from semantic.adapters.outbound.mlx.gguf_metadata import GgufMetadata
from semantic.domain.errors import ModelLoadError

_CONTROL, _USER_DEFINED = 3, 4
"""Values of tokenizer.ggml.token_type."""
_END_KEYS = ("eos", "eot", "eom")


def write(metadata: GgufMetadata, folder: Path) -> None:
    """Write tokenizer.json, tokenizer_config.json, chat_template.jinja and generation_config.json.

    Raises:
        ModelLoadError: if it is not a byte-level BPE with a known way to split words.
    """
    tokens = metadata.texts("tokenizer.ggml.tokens")
    _byte_level_bpe(metadata, tokens).save(str(folder / "tokenizer.json"))
    named = {
        f"{role}_token": tokens[index]
        for role in ("bos", "eos", "padding", "unknown")
        if (index := _id(metadata, role, len(tokens))) is not None
    }
    config: dict[str, object] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "bos_token": named.get("bos_token"),
        "eos_token": named.get("eos_token"),
        "pad_token": named.get("padding_token"),
        "unk_token": named.get("unknown_token"),
        "model_max_length": metadata.required("llama.context_length"),
    }
    _write_json(folder / "tokenizer_config.json", config)
    if template := metadata.text("tokenizer.chat_template"):
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    ends = [_id(metadata, role, len(tokens)) for role in _END_KEYS]
    generation: dict[str, object] = {
        "bos_token_id": _id(metadata, "bos", len(tokens)),
        "eos_token_id": [end for end in ends if end is not None],
        "pad_token_id": _id(metadata, "padding", len(tokens)),
    }
    _write_json(folder / "generation_config.json", generation)


def _byte_level_bpe(metadata: GgufMetadata, tokens: list[str]) -> Tokenizer:
    model = metadata.text("tokenizer.ggml.model")
    if model != "gpt2":
        raise ModelLoadError(f"tokenizer {model!r} in a GGUF file is not supported, gpt2 is")
    vocabulary = {token: index for index, token in enumerate(tokens)}
    merges = [merge.partition(" ") for merge in metadata.texts("tokenizer.ggml.merges")]
    if not tokens or len(vocabulary) != len(tokens):
        raise ModelLoadError("the GGUF file's tokens are missing, or not distinct")
    try:
        tokenizer = Tokenizer(BPE(vocabulary, [(left, right) for left, _, right in merges]))
    except Exception as error:  # the library raises nothing narrower
        raise ModelLoadError(f"the GGUF file's merges do not fit its tokens: {error}") from error
    tokenizer.pre_tokenizer = _word_splitter(metadata.text("tokenizer.ggml.pre") or "default")
    tokenizer.decoder = decoders.ByteLevel()
    kinds = list(zip(tokens, metadata.integers("tokenizer.ggml.token_type"), strict=False))
    # Ids do not move: every one of these is in the vocabulary already.
    tokenizer.add_special_tokens(
        [AddedToken(t, special=True, normalized=False) for t, kind in kinds if kind == _CONTROL]
    )
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t, k in kinds if k == _USER_DEFINED])
    return tokenizer


def _word_splitter(name: str) -> pre_tokenizers.PreTokenizer:
    words = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    if name in {"gpt-2", "default"}:
        return words
    if name == "smollm":
        return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), words])
    raise ModelLoadError(
        f"pre-tokenizer {name!r} in a GGUF file is not supported; smollm, gpt-2 and default are"
    )


def _id(metadata: GgufMetadata, role: str, size: int) -> int | None:
    index = metadata.integer(f"tokenizer.ggml.{role}_token_id")
    return index if index is not None and 0 <= index < size else None


def _write_json(path: Path, value: dict[str, object]) -> None:
    known = {k: v for k, v in value.items() if v is not None and v != []}
    path.write_text(json.dumps(known, indent=2, ensure_ascii=False), encoding="utf-8")

"""A llama with random weights and a vocabulary of bytes, as a GGUF file."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tests.fakes import gguf_file
from tests.fakes.gguf_file import F16, F32, Q4_0, Q4_1, Q8_0, Metadata, Tensor
from tokenizers.pre_tokenizers import ByteLevel

Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.uint8]

HIDDEN, HEADS, KV_HEADS, FFN, BLOCKS = 64, 2, 1, 96, 2
START, END, MARK = "<|im_start|>", "<|im_end|>", "<mark>"
TOKENS = [START, END, MARK, *sorted(ByteLevel.alphabet()), "he", "ll", "hell"]
MERGES = ["h e", "l l", "he ll"]
_NORMAL, _CONTROL, _USER_DEFINED = 1, 3, 4
_GROUP = 32


def metadata() -> Metadata:
    kinds = [_CONTROL, _CONTROL, _USER_DEFINED] + [_NORMAL] * (len(TOKENS) - 3)
    return {
        "general.architecture": "llama",
        "llama.block_count": BLOCKS,
        "llama.context_length": 512,
        "llama.embedding_length": HIDDEN,
        "llama.feed_forward_length": FFN,
        "llama.attention.head_count": HEADS,
        "llama.attention.head_count_kv": KV_HEADS,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.freq_base": 10000.0,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": TOKENS,
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.merges": MERGES,
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 1,
        "tokenizer.chat_template": (
            "{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no tools') }}"
            "{% endif %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
            "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
        ),
    }


def tensors(encode: Callable[[Floats], Tensor]) -> dict[str, Tensor]:
    """All tensors but the output's; matrices as `encode` makes them."""
    random = np.random.default_rng(7)

    def matrix(rows: int, columns: int) -> Tensor:
        return encode(random.normal(0, 0.2, (rows, columns)).astype(np.float32))

    norm = as_f32(np.ones(HIDDEN, np.float32))
    kv = HIDDEN // HEADS * KV_HEADS
    made = {"token_embd.weight": matrix(len(TOKENS), HIDDEN), "output_norm.weight": norm}
    for block in range(BLOCKS):
        made |= {
            f"blk.{block}.attn_norm.weight": norm,
            f"blk.{block}.attn_q.weight": matrix(HIDDEN, HIDDEN),
            f"blk.{block}.attn_k.weight": matrix(kv, HIDDEN),
            f"blk.{block}.attn_v.weight": matrix(kv, HIDDEN),
            f"blk.{block}.attn_output.weight": matrix(HIDDEN, HIDDEN),
            f"blk.{block}.ffn_norm.weight": norm,
            f"blk.{block}.ffn_gate.weight": matrix(FFN, HIDDEN),
            f"blk.{block}.ffn_up.weight": matrix(FFN, HIDDEN),
            f"blk.{block}.ffn_down.weight": matrix(HIDDEN, FFN),
        }
    return made


def write(path: Path, encode: Callable[[Floats], Tensor] | None = None) -> Path:
    """The file as it should be, with F32 matrices unless told otherwise."""
    gguf_file.write(path, metadata(), tensors(encode or as_f32))
    return path


def as_f32(values: Floats) -> Tensor:
    return Tensor(F32, values.shape, values.tobytes())


def as_f16(values: Floats) -> Tensor:
    return Tensor(F16, values.shape, values.astype(np.float16).tobytes())


def as_q8_0(values: Floats) -> Tensor:
    groups = values.reshape(-1, _GROUP)
    scales = (np.abs(groups).max(1, keepdims=True) / 127).astype(np.float16)
    codes = np.round(groups / scales).astype(np.int8)
    return Tensor(Q8_0, values.shape, np.hstack([scales.view(np.int8), codes]).tobytes())


def as_q4_0(values: Floats) -> Tensor:
    groups = values.reshape(-1, _GROUP)
    scales = (np.abs(groups).max(1, keepdims=True) / 7).astype(np.float16)
    codes = (np.round(groups / scales) + 8).astype(np.uint8)
    return Tensor(Q4_0, values.shape, np.hstack([scales.view(np.uint8), _paired(codes)]).tobytes())


def as_q4_1(values: Floats) -> Tensor:
    groups = values.reshape(-1, _GROUP)
    low = groups.min(1, keepdims=True).astype(np.float16)
    scales = ((groups.max(1, keepdims=True) - low) / 15).astype(np.float16)
    codes = np.clip(np.round((groups - low) / scales), 0, 15).astype(np.uint8)
    packed = [scales.view(np.uint8), low.view(np.uint8), _paired(codes)]
    return Tensor(Q4_1, values.shape, np.hstack(packed).tobytes())


def _paired(codes: Codes) -> Codes:
    """ggml's nibbles: a byte holds values i (low) and i + 16 (high)."""
    half = _GROUP // 2
    return (codes[:, :half] | (codes[:, half:] << 4)).astype(np.uint8)

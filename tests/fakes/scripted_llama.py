"""A llama whose weights, written by hand, are a script: call one tool, then answer.

The real engine runs it, with a real vocabulary and as long a context as coding agents need. It says
`call` where the prompt holds no tool's result, and `answer` where it does:

- Pieces of both texts are tokens of their own, each with its own direction in the embedding; the
  head leads from each piece to the next, from the last to the end.
- One attention head looks for the mark before tools' results. It finds it over any distance, as it
  lives in the slowest pair of the rotation. What it adds is worth more than the way to `call` at an
  answer's beginning, and less than any other step of the script.

So what it says depends on keys and values of a place far back: a model that has lost them calls
again.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from semantic.domain.answer_syntax import CallSyntax

CONTEXT = 131_072
RESULT = "<tool_response>"
END = "<|im_end|>"
BEGINNING = "Ċ"
"""The line break that every prompt ends with, as byte-level vocabularies write it."""

_HIDDEN, _HEADS, _HEAD_SIZE = 128, 2, 32
_PIECE = 9
"""Letters of a piece: long enough that few texts of clients hold one."""
_CONSTANT, _MARK, _FOUND, _FIRST = range(4)
"""Directions: of all tokens, of the mark, of having found it; then those of the script."""
_LOOKS, _STRENGTH, _NEXT, _CALL, _ANSWER = 2.0, 0.25, 100.0, 10.0, 10.0

_TEMPLATE = """\
{%- if tools %}<|im_start|>system
# Tools
<tools>
{%- for tool in tools %}
{{ tool | tojson }}
{%- endfor %}
</tools><|im_end|>
{% endif -%}
{%- for message in messages %}
{%- if message.role == "tool" %}<|im_start|>user
<tool_response>
{{ message.content }}
</tool_response><|im_end|>
{% else %}<|im_start|>{{ message.role }}
{{ message.content or "" }}
{%- for call in message.tool_calls or [] %}
{%- if message.content or not loop.first %}{{ "\\n" }}{% endif -%}
<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>
{%- endfor %}<|im_end|>
{% endif -%}
{%- endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif -%}
"""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Script:
    """What the model says."""

    call: str
    answer: str


def call_text(syntax: CallSyntax, name: str, arguments: Any) -> str:
    """A call as a model writes it."""
    written = json.dumps(arguments)
    return f"{syntax.opening}{name}{syntax.naming}{written}{syntax.closing}"


def write_folder(folder: Path, script: Script, vocabulary: Path) -> Path:
    """The model's folder, with the tokenizer of the folder `vocabulary` and the script's pieces."""
    folder.mkdir(parents=True)
    tokenizer = json.loads((vocabulary / "tokenizer.json").read_text())
    call, answer = pieces(script.call), pieces(script.answer)
    ids = _add_tokens(tokenizer, [RESULT, *dict.fromkeys([*call, *answer])])
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    about = json.loads((vocabulary / "tokenizer_config.json").read_text())
    long = json.dumps({**about, "model_max_length": CONTEXT})
    (folder / "tokenizer_config.json").write_text(long)
    (folder / "chat_template.jinja").write_text(_TEMPLATE)
    config = _config(len(ids), end=ids[END])
    (folder / "config.json").write_text(json.dumps(config))
    weights = _weights(ids, call, answer)
    arrays = {name: mx.array(values) for name, values in weights.items()}
    mx.save_safetensors(str(folder / "model.safetensors"), arrays, {"format": "mlx"})
    return folder


def pieces(text: str) -> list[str]:
    """`text` in pieces, none of them twice."""
    cut: list[str] = []
    rest = text
    while rest:
        size = _PIECE
        while rest[:size] in cut and size < len(rest):
            size += 1
        cut.append(rest[:size])
        rest = rest[size:]
    if len(set(cut)) < len(cut):
        raise ValueError(f"{cut[-1]!r} would be said twice")
    return cut


def _add_tokens(tokenizer: dict[str, Any], new: Sequence[str]) -> dict[str, int]:
    """All ids by their tokens, after `new` ones have been added."""
    ids: dict[str, int] = dict(tokenizer["model"]["vocab"])
    ids |= {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    for content in (content for content in new if content not in ids):
        ids[content] = len(ids)
        plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
        tokenizer["added_tokens"].append({"id": ids[content], "content": content, **plain})
    return ids


def _config(vocabulary: int, *, end: int) -> dict[str, Any]:
    return {
        "model_type": "llama",
        "hidden_size": _HIDDEN,
        "num_hidden_layers": 1,
        "intermediate_size": 32,
        "num_attention_heads": _HEADS,
        "num_key_value_heads": 1,
        "head_dim": _HEAD_SIZE,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1e12,
        "max_position_embeddings": CONTEXT,
        "tie_word_embeddings": False,
        "vocab_size": vocabulary,
        "eos_token_id": end,
    }


def _weights(ids: dict[str, int], call: list[str], answer: list[str]) -> dict[str, Floats]:
    said = list(dict.fromkeys([*call, *answer]))
    direction = {piece: _FIRST + 1 + number for number, piece in enumerate(said)}
    embedding = np.zeros((len(ids), _HIDDEN), np.float32)
    embedding[:, _CONSTANT] = 1
    embedding[ids[RESULT], _MARK] = 1
    embedding[ids[BEGINNING], _FIRST] = 1
    head = np.zeros_like(embedding)
    head[ids[call[0]], _FIRST] = _CALL
    head[ids[answer[0]], _FOUND] = _ANSWER
    for piece, at in direction.items():
        embedding[ids[piece], at] = 1
    for text in (call, answer):
        for piece, following in zip(text, [*text[1:], END], strict=True):
            head[ids[following], direction[piece]] = _NEXT
    return {
        "model.embed_tokens.weight": embedding,
        "lm_head.weight": head,
        "model.norm.weight": np.ones(_HIDDEN, np.float32),
        **{f"model.layers.0.{name}.weight": values for name, values in _layer().items()},
    }


def _layer() -> dict[str, Floats]:
    """Attention that looks for the mark, and nothing else."""
    slowest = _HEAD_SIZE // 2 - 1
    query = np.zeros((_HEADS * _HEAD_SIZE, _HIDDEN), np.float32)
    key, value = np.zeros((2, _HEAD_SIZE, _HIDDEN), np.float32)
    out = np.zeros((_HIDDEN, _HEADS * _HEAD_SIZE), np.float32)
    query[slowest, _CONSTANT] = _LOOKS
    key[slowest, _MARK] = _LOOKS
    value[0, _MARK] = 1
    out[_FOUND, 0] = _STRENGTH
    small = np.zeros((32, _HIDDEN), np.float32)
    return {
        "self_attn.q_proj": query,
        "self_attn.k_proj": key,
        "self_attn.v_proj": value,
        "self_attn.o_proj": out,
        "mlp.gate_proj": small,
        "mlp.up_proj": small,
        "mlp.down_proj": small.T.copy(),
        "input_layernorm": np.ones(_HIDDEN, np.float32),
        "post_attention_layernorm": np.ones(_HIDDEN, np.float32),
    }

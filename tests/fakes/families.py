# ruff: noqa: RUF001 - DeepSeek's marks are written with letters that look like others
"""The families' published chat templates, as a model folder would bring them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from transformers.utils.chat_template_utils import render_jinja_template

from semantic.adapters.outbound.mlx.chat_template import ChatTemplate, TemplateSource
from semantic.domain.answer_syntax import ReasoningSyntax

_FOLDER = Path(__file__).parent / "templates"
_THINK = ReasoningSyntax()

FAMILIES: Mapping[str, tuple[str, ReasoningSyntax | None]] = {
    "deepseek-r1": ("<｜end▁of▁sentence｜>", _THINK),
    "deepseek-v3.1": ("<｜end▁of▁sentence｜>", _THINK),
    "gemma-3": ("<end_of_turn>", None),
    "glm-4.5": ("<|observation|>", _THINK),
    "glm-4.7": ("<|observation|>", _THINK),
    "gpt-oss": ("<|call|>", None),
    "kimi-k2": ("<|im_end|>", None),
    "llama-3.1": ("<|eot_id|>", None),
    "ministral-3": ("</s>", ReasoningSyntax("[THINK]", "[/THINK]")),
    "mistral-nemo": ("</s>", None),
    "mistral-small-3.2": ("</s>", None),
    "qwen-2.5": ("<|im_end|>", None),
    "qwen-3": ("<|im_end|>", _THINK),
    "qwen-3-coder": ("<|im_end|>", None),
    "qwen-3.5": ("<|im_end|>", _THINK),
}
"""What ends a turn, and how the family reasons."""


@dataclass(frozen=True)
class _Apply:
    text: str
    eos: str
    thinks: bool

    def __call__(
        self,
        turns: Sequence[dict[str, Any]],
        *,
        tools: Sequence[dict[str, Any]] | None,
        opened: bool,
        options: Mapping[str, Any],
    ) -> str:
        known = {"enable_thinking": self.thinks, "bos_token": "<s>", "eos_token": self.eos}
        render: Callable[..., Any] = render_jinja_template
        rendered, _ = render(
            [list(turns)],
            tools=tools,
            chat_template=self.text,
            add_generation_prompt=opened,
            **(known | dict(options)),
        )
        return str(rendered[0])


@cache
def template_of(family: str) -> ChatTemplate:
    """A family's template; those in FAMILIES."""
    end, reasoning = FAMILIES[family]
    text = (_FOLDER / f"{family}.jinja").read_text()
    apply = _Apply(text, end, reasoning is not None)
    return ChatTemplate(TemplateSource(apply, text, (end,), reasoning))

"""Text and token ids of a model folder's tokenizer.

Owns the adaptation of mlx-lm's tokenizer to the port. What the model's own template and
vocabulary say is done as they say; only a model without a template gets a plain one from here.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from mlx_lm.tokenizer_utils import TokenizerWrapper
from mlx_lm.utils import load_config, load_tokenizer

from semantic.adapters.outbound.mlx.chat_template import ChatTemplate, TemplateSource
from semantic.adapters.outbound.mlx.template_turns import Turn
from semantic.adapters.outbound.mlx.token_bytes import piece_bytes
from semantic.domain.answer_syntax import AnswerSyntax, ReasoningSyntax
from semantic.domain.chat import Conversation
from semantic.domain.errors import ModelLoadError
from semantic.domain.harmony_parser import CALL
from semantic.domain.ids import TokenId

_UNFINISHED = "\N{REPLACEMENT CHARACTER}"
"""What the bytes of half a character decode to."""


_TURN_ENDS = frozenset({CALL, "<|eom_id|>"})
"""Tokens that end a turn which a call's result follows; not all configurations name them."""

_THINK = ("[THINK]", "[/THINK]")


class MlxTokenizer:
    """Implements the port `Tokenizer`. `stop_tokens`: ids that end an answer."""

    def __init__(self, wrapper: TokenizerWrapper) -> None:
        self._wrapper = wrapper
        # The first use sets a fast tokenizer up, which it refuses ("already borrowed") while
        # another thread uses it. Later ones need no lock: nobody waits for another's long text.
        self.encode("")
        self._special = frozenset(
            index for index, token in wrapper.added_tokens_decoder.items() if token.special
        )
        self._added: dict[TokenId, str] = {
            index: token.content for index, token in wrapper.added_tokens_decoder.items()
        }
        self._byte_level = _is_byte_level(wrapper)
        ends = {index for index, text in self._added.items() if text in _TURN_ENDS}
        self.stop_tokens: frozenset[TokenId] = frozenset(wrapper.eos_token_ids) | ends
        self._template = ChatTemplate(self._template_source())
        marks = self.syntax.marks
        self._silent = frozenset(
            index
            for index in self._special
            if index in self.stop_tokens or not any(self._added[index] in mark for mark in marks)
        )

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a model folder's tokenizer.

        Raises:
            ModelLoadError: if its files cannot be used.
        """
        try:
            # Those of generation_config.json, which mlx-lm puts over the configuration's.
            ends = load_config(folder).get("eos_token_id")
            wrapper = load_tokenizer(folder, eos_token_ids=ends)  # type: ignore[no-untyped-call]
            return cls(wrapper)
        except Exception as error:  # transformers raises whatever the files make it stumble over
            raise ModelLoadError(f"the tokenizer in {folder} cannot be used: {error}") from error

    @property
    def special_tokens(self) -> frozenset[TokenId]:
        """Ids that no text of an answer is made of."""
        return self._special

    @property
    def syntax(self) -> AnswerSyntax:
        """How the model writes reasoning and calls."""
        return self._template.syntax

    def render(self, conversation: Conversation, *, answered: bool = False) -> str:
        """The conversation in the form of the model's template, or else of `_apply_plainly`.

        Raises:
            InvalidRequestError: if the model's template refuses the messages.
        """
        return self._template.render(conversation, answered=answered)

    def encode(self, text: str) -> tuple[TokenId, ...]:
        """Ids of rendered text; markers in it become special tokens, none are added."""
        return tuple(self._wrapper.encode(text, add_special_tokens=False, verbose=False))

    def decode(self, tokens: Sequence[TokenId]) -> str:
        """Text of ids, special tokens included."""
        text = self._wrapper.decode(
            list(tokens), skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return str(text)

    def token_bytes(self, token: TokenId) -> bytes:
        """What one token stands for: a part of UTF-8 text; empty for ids that it does not know."""
        if token in self._added:
            return str(self._added[token]).encode()
        piece = self._wrapper.convert_ids_to_tokens(token)
        return piece_bytes(piece, byte_level=self._byte_level) if piece else b""

    def decoder(self) -> "StreamDecoder":
        """A new decoder for one answer; special tokens leave no text but those of `syntax`."""
        return StreamDecoder(self, self._silent)

    def _template_source(self) -> TemplateSource:
        has_template = self._wrapper.has_chat_template
        text = self._wrapper.chat_template if has_template else None
        if isinstance(text, dict):
            text = "\n".join(map(str, text.values()))
        return TemplateSource(
            apply=self._apply if has_template else self._apply_plainly,
            text=text if isinstance(text, str) else "",
            turn_ends=tuple(map(self._text_of, sorted(self.stop_tokens))),
            reasoning=self._reasoning(),
        )

    def _text_of(self, token: TokenId) -> str:
        return self._added.get(token) or self.decode([token])

    def _reasoning(self) -> ReasoningSyntax | None:
        """The marks of reasoning: those that mlx-lm has found, or Mistral's."""
        if self._wrapper.has_thinking:
            return ReasoningSyntax(self._wrapper.think_start, self._wrapper.think_end)
        begin, end = _THINK
        if {begin, end} <= set(self._added.values()):
            return ReasoningSyntax(begin, end)
        return None

    def _apply(
        self,
        turns: Sequence[Turn],
        *,
        tools: Sequence[Turn] | None,
        opened: bool,
        options: Mapping[str, Any],
    ) -> str:
        text = self._wrapper.apply_chat_template(  # type: ignore[no-untyped-call]
            list(turns), tools=tools, tokenize=False, add_generation_prompt=opened, **options
        )
        return str(text)

    def _apply_plainly(
        self,
        turns: Sequence[Turn],
        *,
        tools: Sequence[Turn] | None,  # noqa: ARG002 - as every template is called
        opened: bool,
        options: Mapping[str, Any],  # noqa: ARG002 - the same
    ) -> str:
        """A paragraph a turn, "User: ...", and an open "Assistant:" for base models to continue."""
        said = [f"{turn['role'].capitalize()}: {turn['content']}" for turn in turns]
        return (self._wrapper.bos_token or "") + "\n\n".join([*said, *["Assistant:"] * opened])


def _is_byte_level(wrapper: TokenizerWrapper) -> bool:
    """Whether the vocabulary writes bytes as letters; its decoder may be one of several."""
    backend = getattr(wrapper, "backend_tokenizer", None)
    return backend is not None and "ByteLevel" in repr(backend.decoder)


class StreamDecoder:
    """Implements the port `TokenDecoder`, whatever the kind of tokenizer.

    Decodes again the few tokens since the text before last, as a word may begin with a space only
    if something precedes it:

        [ given out | _known: given out, decoded again | not given out: half a character ]
                    ^ _tokens[0]                       ^ _tokens[_num_known]

    The pieces joined equal `decode` of all the tokens that are not special, for a byte-level
    tokenizer whatever the bytes; a tokenizer with byte fallback shows bytes that are no UTF-8
    differently when it sees them all at once.
    """

    def __init__(self, tokenizer: MlxTokenizer, special: frozenset[TokenId]) -> None:
        self._tokenizer = tokenizer
        self._special = special
        self._tokens: list[TokenId] = []
        self._num_known = 0
        self._known = ""

    def add(self, token: TokenId) -> str:
        """The text that is certain now; empty while a character is incomplete."""
        if token in self._special:
            return ""
        self._tokens.append(token)
        text = self._tokenizer.decode(self._tokens)
        if text.endswith(_UNFINISHED) or len(text) <= len(self._known):
            return ""
        new = text[len(self._known) :]
        self._tokens = self._tokens[self._num_known :]
        self._num_known = len(self._tokens)
        self._known = self._tokenizer.decode(self._tokens)
        return new

    def finish(self) -> str:
        """What was held back."""
        rest = self._tokenizer.decode(self._tokens)[len(self._known) :]
        self._tokens, self._num_known, self._known = [], 0, ""
        return rest

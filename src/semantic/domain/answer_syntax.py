"""How a model writes what is not plain text: reasoning, and calls of tools.

A value, found out when a model is loaded. One side reads answers by it, another makes the grammar
that answers are held to, so that what is read is what was meant.
"""

import enum
from dataclasses import dataclass


class Arguments(enum.Enum):
    """`JSON`: one JSON object. `TAGGED`: each by itself, between tags (Qwen 3 Coder, Qwen 3.5)."""

    JSON = "json"
    TAGGED = "tagged"


@dataclass(frozen=True, slots=True)
class ArgumentTags:
    r"""An argument between tags: begin KEY naming VALUE end.

    A value that can only be text is written as it is, any other as JSON (`tagged_arguments`).
    """

    begin: str = "<parameter="
    naming: str = ">\n"
    end: str = "\n</parameter>\n"


@dataclass(frozen=True, slots=True)
class CallSyntax:
    r"""The text of a call, letter for letter; the grammar allows no other.

        opening NAME naming ARGUMENTS closing      <tool_call>\n{"name": "NAME", "arguments": ...

    Spaces in a JSON object of arguments are those of Python's `json.dumps`, as templates write it
    (", " and ": "). `trigger` is how the first call begins where nothing else does: from there on
    it is a call. Between two calls is `between`; all of them together stand in `before` and
    `after`. What separates them from text before them is `lead`, and no part of that text. If they
    are `numbered`, ":" and the call's number in its answer, from 0, follow the name.
    """

    trigger: str
    opening: str
    naming: str
    closing: str
    between: str = "\n"
    before: str = ""
    after: str = ""
    arguments: Arguments = Arguments.JSON
    tags: ArgumentTags = ArgumentTags()
    lead: str = ""
    numbered: bool = False

    @property
    def is_json(self) -> bool:
        """Whether a call is a JSON object and nothing beside it (Llama 3)."""
        return self.opening.startswith("{") and not (self.before or self.numbered)


HERMES = CallSyntax(
    trigger="<tool_call>",
    opening='<tool_call>\n{"name": "',
    naming='", "arguments": ',
    closing="}\n</tool_call>",
    lead="\n",
)
"""What most open models write, and what a model is taught whose template knows no tools."""


@dataclass(frozen=True, slots=True)
class ReasoningSyntax:
    """Reasoning stands between `begin` and `end`; blank space around the marks is no text."""

    begin: str = "<think>"
    end: str = "</think>"


HARMONY_MARKS = ("<|channel|>", "<|message|>", "<|start|>", "<|constrain|>", "<|end|>")
"""What separates messages and their parts; what ends an answer is none of them."""


@dataclass(frozen=True, slots=True)
class AnswerSyntax:
    """One model's. `harmony`: its answers are messages in channels, as GPT-OSS writes them.

    `reasoning` is None for a model that does not reason aloud.
    """

    calls: CallSyntax = HERMES
    reasoning: ReasoningSyntax | None = None
    harmony: bool = False

    def begins_in(self, prompt: str) -> bool:
        """Whether an answer to `prompt` begins inside reasoning."""
        return self.reasoning is not None and prompt.rstrip().endswith(self.reasoning.begin)

    @property
    def marks(self) -> tuple[str, ...]:
        """All texts that are marks, or hold one."""
        if self.harmony:
            return HARMONY_MARKS
        calls, tags, reasoning = self.calls, self.calls.tags, self.reasoning
        marks = [calls.trigger, calls.opening, calls.naming, calls.closing]
        marks += [calls.before, calls.between, calls.after, tags.begin, tags.naming, tags.end]
        return (*marks, *((reasoning.begin, reasoning.end) if reasoning else ()))

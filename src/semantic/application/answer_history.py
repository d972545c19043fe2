r"""How an answer is written once it is history, next to the ids that it was really made of.

A model writes a call its way, or a word in other tokens than a tokenizer would; the client sends
back what it understood of it, and the template writes that anew. Where the template's text says all
that was generated, it is the answer's alias: the ids that were generated stand for it.

    ... <|im_start|>assistant\n | answer, with all that ends a turn | <|im_start|>user ...
    <- the prompt, as rendered -> <- its text, or its alias -------->

Holds nothing of any request. Safe to use from several threads.
"""

from dataclasses import replace
from itertools import takewhile

from semantic.domain.agent import Segment
from semantic.domain.chat import ChatMessage, Conversation, Role
from semantic.domain.errors import InvalidRequestError
from semantic.domain.ids import TokenId
from semantic.ports.tokenizer import Tokenizer

_PROBES = ("a", "1")
"""Two answers that end unlike: what a template writes after both is what ends a turn."""


class AnswerHistory:
    """The answers of one model."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._turn_end: str | None = None

    def segments(
        self, ids: tuple[TokenId, ...], asked: Conversation, rendered: str, answer: ChatMessage
    ) -> tuple[Segment, ...]:
        """What was generated after `asked`, which was `rendered`, and is `answer` to a client.

        It is one segment, or two where the template ends a turn otherwise than the model did.
        """
        plain = Segment(self._tokenizer.decode(ids), ids)
        written = self._written(asked, rendered, answer)
        ended = ids[-1] in self._tokenizer.stop_tokens
        if written is None or (answer.calls and not ended):
            return (plain,)  # a call may be cut off, and history has none that are
        mark = self._tokenizer.decode(ids[-1:]) if ended else ""
        if mark and mark in written:
            return (_known_as(plain, written[: written.rindex(mark) + len(mark)]),)
        end = self._end_of_turn()
        said = written.removesuffix(end)
        if not said or not written.endswith(end):
            return (plain,)
        if not ended:
            return (_known_as(plain, said),)
        spoken = ids[:-1]
        if not spoken:
            return (plain,)
        return (
            _known_as(Segment(self._tokenizer.decode(spoken), spoken), said),
            Segment(mark, ids[-1:]),
        )

    def _written(self, asked: Conversation, rendered: str, answer: ChatMessage) -> str | None:
        """The answer as history, with the end of its turn; None if that says less, or differs."""
        after = replace(asked, messages=(*asked.messages, answer))
        try:
            whole = self._tokenizer.render(after, answered=True)
        except InvalidRequestError:
            return None
        if not whole.startswith(rendered):
            return None
        written = whole[len(rendered) :]
        says_all = all(
            said.strip() in written
            for said in (answer.content, answer.reasoning, *(call.name for call in answer.calls))
        )
        return written if says_all else None

    def _end_of_turn(self) -> str:
        """What the template writes after an answer, whatever that says."""
        if self._turn_end is None:
            question = ChatMessage(Role.USER, _PROBES[0])
            turns = [
                self._tokenizer.render(
                    Conversation((question, ChatMessage(Role.ASSISTANT, probe))), answered=True
                )
                for probe in _PROBES
            ]
            alike = takewhile(
                lambda pair: pair[0] == pair[1], zip(*map(reversed, turns), strict=False)
            )
            self._turn_end = "".join(letter for letter, _ in alike)[::-1]
        return self._turn_end


def _known_as(segment: Segment, alias: str) -> Segment:
    return segment if alias == segment.text else replace(segment, alias=alias)

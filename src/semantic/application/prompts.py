"""From a request to the ids of its prompt, and from an answer to what is remembered of it.

Text becomes tokens on threads of its own. What clients change by themselves is taken out before.
Ids that were really processed stand in wherever the rendered text is the same.
"""

from dataclasses import dataclass, replace

from semantic.application.answer_history import AnswerHistory
from semantic.application.system_prefix import SystemPrefix
from semantic.application.text_work import TextWork
from semantic.domain.agent import Branch, Recall, Segment, recall
from semantic.domain.chat import ChatMessage, Conversation, RawPrompt
from semantic.domain.errors import InvalidRequestError
from semantic.domain.ids import TokenId
from semantic.domain.stable_prompt import ALL_RULES, Rule, stable
from semantic.ports.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Prompt:
    """What was `said` as tokens.

    `text` is how the template writes it, `asked` what follows the recalled part. Its first
    `system_end` tokens may begin other conversations as well.
    """

    said: Conversation | RawPrompt
    text: str
    recalled: Recall
    asked: Segment
    system_end: int = 0

    @property
    def tokens(self) -> tuple[TokenId, ...]:
        """All of it."""
        return self.recalled.ids + self.asked.ids

    @property
    def text_end(self) -> str:
        """The end of its text."""
        if self.asked.text or self.recalled.branch is None:
            return self.asked.text
        return self.recalled.branch.segments[self.recalled.segments - 1].text


class Prompts:
    """Prompts of one model, which can go on from any position or needs its system prompt's end.

    `rules` say what of a conversation is taken out or written alike.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        resumes_anywhere: bool,
        rules: frozenset[Rule] = ALL_RULES,
    ) -> None:
        self._tokenizer = tokenizer
        self._system_prefix = None if resumes_anywhere else SystemPrefix(tokenizer)
        self._history = AnswerHistory(tokenizer)
        self._rules = rules
        self._text = TextWork()

    async def of(
        self, asked: Conversation | RawPrompt, branches: tuple[Branch, ...] = ()
    ) -> Prompt:
        """The prompt; `branches` are what is remembered of who asks.

        Raises:
            InvalidRequestError: if the model's template refuses it, or nothing is left of it.
            EngineError: if it takes too long.
        """
        if isinstance(asked, RawPrompt) and not isinstance(asked.prompt, str):
            return Prompt(asked, "", Recall(), Segment("", asked.prompt))
        prompt = await self._text.done(lambda: self._tokenized(asked, branches))
        if not prompt.tokens:
            field = "prompt" if isinstance(asked, RawPrompt) else "messages"
            raise InvalidRequestError(f"there is no text in {field}", field=field)
        return prompt

    async def text_of(self, ids: tuple[TokenId, ...]) -> str:
        """The text that ids stand for."""
        return await self._text.done(lambda: self._tokenizer.decode(ids))

    async def turn(
        self, prompt: Prompt, ids: tuple[TokenId, ...] | None, answer: ChatMessage
    ) -> tuple[Segment, ...]:
        """What a turn adds to what was recalled: what was asked, and the answer, if it has `ids`.

        `answer` is what the client was told.
        """
        return await self._text.done(lambda: self._turn(prompt, ids, answer))

    def _turn(
        self, prompt: Prompt, ids: tuple[TokenId, ...] | None, answer: ChatMessage
    ) -> tuple[Segment, ...]:
        asked = prompt.asked
        if asked.ids and not asked.text:  # ids that a client sent: their text is not known yet
            asked = replace(asked, text=self._tokenizer.decode(asked.ids))
        # A question asked again leaves nothing new before the answer, and no segment.
        new = (asked,) if asked.text else ()
        return new + self._answered(prompt, ids, answer) if ids else new

    def _answered(
        self, prompt: Prompt, ids: tuple[TokenId, ...], answer: ChatMessage
    ) -> tuple[Segment, ...]:
        if isinstance(prompt.said, RawPrompt):
            return (Segment(self._tokenizer.decode(ids), ids),)
        said = prompt.said
        # As it will look when it comes back; the tools are in order already.
        alone = replace(said, messages=(answer,))
        (answer,) = stable(alone, self._rules - {Rule.TOOL_SCHEMAS}).messages
        return self._history.segments(ids, said, prompt.text, answer)

    def _tokenized(self, asked: Conversation | RawPrompt, branches: tuple[Branch, ...]) -> Prompt:
        said = stable(asked, self._rules) if isinstance(asked, Conversation) else asked
        rendered = self._text_of(said)
        recalled = recall(branches, rendered)
        rest = rendered[recalled.length :]
        prompt = Prompt(said, rendered, recalled, Segment(rest, self._tokenizer.encode(rest)))
        if self._system_prefix is None or isinstance(said, RawPrompt):
            return prompt
        return replace(prompt, system_end=self._system_prefix.end(said, prompt.tokens))

    def _text_of(self, asked: Conversation | RawPrompt) -> str:
        if isinstance(asked, Conversation):
            return self._tokenizer.render(asked)
        return asked.prompt if isinstance(asked.prompt, str) else ""

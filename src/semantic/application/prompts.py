"""From a request to the ids of its prompt: rendered, tokenized, with what is remembered of it.

Text becomes tokens on threads of its own. Ids that were really processed stand in wherever the
rendered text is the same.
"""

from dataclasses import dataclass, replace

from semantic.application.system_prefix import SystemPrefix
from semantic.application.text_work import TextWork
from semantic.domain.agent import Branch, Recall, Segment, recall
from semantic.domain.chat import Conversation, RawPrompt
from semantic.domain.errors import InvalidRequestError
from semantic.domain.ids import TokenId
from semantic.ports.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Prompt:
    """A conversation as tokens. `asked` is what follows the recalled part.

    Its first `system_end` tokens may begin other conversations as well.
    """

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
    """Prompts of one model, which can go on from any position or needs its system prompt's end."""

    def __init__(self, tokenizer: Tokenizer, *, resumes_anywhere: bool) -> None:
        self._tokenizer = tokenizer
        self._system_prefix = None if resumes_anywhere else SystemPrefix(tokenizer)
        self._text = TextWork()

    async def of(
        self, asked: Conversation | RawPrompt, branches: tuple[Branch, ...] = ()
    ) -> Prompt:
        """The prompt; `branches` are what its agent remembers.

        Raises:
            InvalidRequestError: if the model's template refuses it, or nothing is left of it.
            EngineError: if it takes too long.
        """
        if isinstance(asked, RawPrompt) and not isinstance(asked.prompt, str):
            return Prompt(Recall(), Segment("", asked.prompt))
        prompt = await self._text.done(lambda: self._tokenized(asked, branches))
        if not prompt.tokens:
            raise InvalidRequestError("the messages hold no text", field="messages")
        return prompt

    async def answered(self, ids: tuple[TokenId, ...]) -> Segment:
        """An answer's ids with their text."""
        return Segment(await self._text.done(lambda: self._tokenizer.decode(ids)), ids)

    def _tokenized(self, asked: Conversation | RawPrompt, branches: tuple[Branch, ...]) -> Prompt:
        rendered = self._text_of(asked)
        recalled = recall(branches, rendered)
        rest = rendered[recalled.length :]
        prompt = Prompt(recalled, Segment(rest, self._tokenizer.encode(rest)))
        if self._system_prefix is None or isinstance(asked, RawPrompt):
            return prompt
        return replace(prompt, system_end=self._system_prefix.end(asked, prompt.tokens))

    def _text_of(self, asked: Conversation | RawPrompt) -> str:
        if isinstance(asked, Conversation):
            return self._tokenizer.render(asked)
        return asked.prompt if isinstance(asked.prompt, str) else ""

"""Three conversations over real text, and a client that times them.

The text is Python's own language reference, which comes with every interpreter.
"""

import re
import time
from dataclasses import dataclass, field
from pydoc_data.topics import topics

from openai import OpenAI
from openai.types.chat import ChatCompletionMessageParam

MODEL = "smollm2-135m-instruct"
CHARACTERS_PER_TOKEN = 3.9
"""Of the default model's tokenizer on this text, roughly; the server reports exact numbers."""


@dataclass(frozen=True, slots=True)
class Script:
    """What one agent reads and is asked."""

    agent: str
    topics: tuple[str, ...]
    first: str
    then: tuple[str, ...]
    """Questions for later turns, one after each restart."""

    def page(self, tokens: int) -> str:
        """About `tokens` tokens of the language reference."""
        text = "\n\n".join(topics[topic] for topic in self.topics)
        return re.sub(r"[ \t]+", " ", text)[: round(tokens * CHARACTERS_PER_TOKEN)]


SCRIPTS = (
    Script(
        agent="alice",
        topics=("class", "import"),
        first="What is this text about? Answer in one sentence.",
        then=("Name one keyword of it.", "Where would I use it?", "Is it hard to learn?"),
    ),
    Script(
        agent="bob",
        topics=("try", "with", "exceptions"),
        first="Which statement does the text describe first?",
        then=("When is it useful?", "What can go wrong?", "Say it in other words."),
    ),
    Script(
        agent="carol",
        topics=("formatstrings", "strings"),
        first="Summarise the text in one short sentence.",
        then=("Give one example.", "Give another one.", "Which is shorter?"),
    ),
)


@dataclass(frozen=True, slots=True)
class Turn:
    """One answer and how it came. `ttft_s`: seconds until the first piece of text."""

    text: str
    ttft_s: float
    total_s: float
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int


@dataclass(slots=True)
class Conversation:
    """One agent's conversation with one server."""

    client: OpenAI
    agent: str
    messages: list[ChatCompletionMessageParam] = field(default_factory=list)

    def ask(self, question: str, max_tokens: int) -> Turn:
        """Ask greedily, keep the answer in the history, report how it went."""
        self.messages.append({"role": "user", "content": question})
        begin = time.perf_counter()
        first: float | None = None
        text = ""
        prompt = cached = completion = 0
        with self.client.chat.completions.create(
            model=MODEL,
            messages=self.messages,
            max_tokens=max_tokens,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
            extra_headers={"X-Agent-ID": self.agent},
        ) as stream:
            for chunk in stream:
                if chunk.choices and chunk.choices[0].delta.content:
                    first = first or time.perf_counter() - begin
                    text += chunk.choices[0].delta.content
                if chunk.usage:
                    prompt = chunk.usage.prompt_tokens
                    completion = chunk.usage.completion_tokens
                    details = chunk.usage.prompt_tokens_details
                    cached = (details.cached_tokens or 0) if details else 0
        total = time.perf_counter() - begin
        self.messages.append({"role": "assistant", "content": text})
        return Turn(text, first or total, total, prompt, cached, completion)

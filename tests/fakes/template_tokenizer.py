"""The letter tokenizer with a template that knows tools and reasoning, in words of its own."""

from dataclasses import dataclass

from tests.fakes.letter_tokenizer import LetterTokenizer

from semantic.domain.chat import ChatMessage, Conversation, Role


@dataclass
class TemplateTokenizer(LetterTokenizer):
    """What a template may do to an answer that has become history.

    Text is trimmed, `shows_reasoning` says whether reasoning is shown, `ends` what ends a turn.
    """

    shows_reasoning: bool = True
    ends: str = "<|im_end|>\n"
    opens: str = "<|im_start|>assistant\n"

    def render(self, conversation: Conversation, *, answered: bool = False) -> str:
        tools = "".join(f"{tool.name} {tool.parameters}\n" for tool in conversation.use.tools)
        head = f"<|im_start|>tools\n{tools}<|im_end|>\n" if tools else ""
        turns = head + "".join(map(self._turn, conversation.messages))
        return turns if answered else turns + self.opens

    def _turn(self, message: ChatMessage) -> str:
        text = message.content
        if message.role is Role.ASSISTANT:
            calls = "".join(f"<call>{c.name} {c.arguments}</call>" for c in message.calls)
            thought = f"<think>{message.reasoning}</think>" if message.reasoning else ""
            text = (thought if self.shows_reasoning else "") + text.strip() + calls
        return f"<|im_start|>{message.role.value}\n{text}{self.ends}"

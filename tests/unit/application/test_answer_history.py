"""An answer's ids stand for how a template writes it, if that says all of it."""

import pytest
from tests.fakes.letter_tokenizer import END, LetterTokenizer
from tests.fakes.template_tokenizer import TemplateTokenizer

from semantic.application.answer_history import AnswerHistory
from semantic.domain.agent import Segment
from semantic.domain.chat import ChatMessage, Conversation, Role
from semantic.domain.tools import ToolCall

ASKED = Conversation((ChatMessage(Role.USER, "hello"),))
CALL = ToolCall("1", "look", '{"a": 1}')


def said(content: str, reasoning: str = "", *calls: ToolCall) -> ChatMessage:
    return ChatMessage(Role.ASSISTANT, content, reasoning, calls)


def segments(
    raw: str, answer: ChatMessage, tokenizer: TemplateTokenizer, asked: Conversation = ASKED
) -> list[tuple[str, str | None]]:
    """Text and alias of each segment; `raw` is what was generated."""
    ids = tokenizer.encode(raw)
    rendered = tokenizer.render(asked)
    found = AnswerHistory(tokenizer).segments(ids, asked, rendered, answer)
    assert tuple(token for one in found for token in one.ids) == ids
    assert "".join(one.text for one in found) == raw
    history = tokenizer.render(
        Conversation((*asked.messages, answer, ChatMessage(Role.USER, "go on")))
    )
    for one in found:
        if one.alias is not None:
            assert history.startswith(rendered + one.alias)
    return [(one.text, one.alias) for one in found]


@pytest.fixture
def tokenizer() -> TemplateTokenizer:
    return TemplateTokenizer()


def test_what_is_written_as_it_was_generated_needs_no_alias(tokenizer: TemplateTokenizer) -> None:
    assert segments("fine<|im_end|>", said("fine"), tokenizer) == [("fine<|im_end|>", None)]


def test_text_that_the_template_trims_is_known_by_both(tokenizer: TemplateTokenizer) -> None:
    found = segments("\n\nfine <|im_end|>", said("\n\nfine "), tokenizer)
    assert found == [("\n\nfine <|im_end|>", "fine<|im_end|>")]


def test_a_call_is_known_as_the_template_writes_it(tokenizer: TemplateTokenizer) -> None:
    raw = '<tool>look({"a":1})</tool><|im_end|>'
    found = segments(raw, said("", "", CALL), tokenizer)
    assert found == [(raw, '<call>look {"a": 1}</call><|im_end|>')]


def test_reasoning_that_the_template_shows_is_a_part_of_it(tokenizer: TemplateTokenizer) -> None:
    raw = "<think>\nhm\n</think>\n\nfine<|im_end|>"
    found = segments(raw, said("fine", "hm"), tokenizer)
    assert found == [(raw, "<think>hm</think>fine<|im_end|>")]


def test_an_answer_whose_reasoning_is_not_shown_has_no_alias() -> None:
    raw = "<think>hm</think>fine<|im_end|>"
    tokenizer = TemplateTokenizer(shows_reasoning=False)
    assert segments(raw, said("fine", "hm"), tokenizer) == [(raw, None)]


def test_an_answer_that_was_cut_short_is_known_without_an_end(tokenizer: TemplateTokenizer) -> None:
    assert segments(" fin", said(" fin"), tokenizer) == [(" fin", "fin")]
    assert segments("fin", said("fin"), tokenizer) == [("fin", None)]


def test_a_call_that_was_cut_off_is_not_taken_for_a_whole_one(
    tokenizer: TemplateTokenizer,
) -> None:
    raw = '<tool>look({"a":1}'
    assert segments(raw, said("", "", CALL), tokenizer) == [(raw, None)]


def test_an_end_that_the_template_writes_otherwise_is_a_segment_of_its_own() -> None:
    tokenizer = TemplateTokenizer(ends="<end>\n")
    assert segments(" fine<|im_end|>", said(" fine"), tokenizer) == [
        (" fine", "fine"),
        ("<|im_end|>", None),
    ]


@pytest.mark.parametrize("content", ["", " "])
def test_an_empty_answer_stands_for_nothing_but_the_end_of_a_turn(
    content: str, tokenizer: TemplateTokenizer
) -> None:
    found = segments(f"{content}<|im_end|>", said(content), tokenizer)
    assert found[0][1] in (None, "<|im_end|>")
    tokenizer.ends = "<end>\n"
    assert segments(f"{content}<|im_end|>", said(content), tokenizer)[0][1] is None
    if content:
        assert segments(content, said(content), tokenizer) == [(content, None)]


def test_history_that_does_not_begin_with_the_prompt_has_no_alias() -> None:
    tokenizer = TemplateTokenizer(opens="<|im_start|>assistant\n<think></think>")
    raw = " fine<|im_end|>"
    ids = tokenizer.encode(raw)
    history = AnswerHistory(tokenizer)
    found = history.segments(ids, ASKED, tokenizer.render(ASKED), said(" fine"))
    assert found == (Segment(raw, ids),)


def test_a_template_that_refuses_the_answer_costs_only_the_alias() -> None:
    class Refusing(TemplateTokenizer):
        def render(self, conversation: Conversation, *, answered: bool = False) -> str:
            return LetterTokenizer.render(self, conversation, answered=answered)

    tool = ChatMessage(Role.TOOL, "result")
    asked = Conversation((ChatMessage(Role.USER, "hello"), tool))
    found = AnswerHistory(Refusing()).segments((1, END), asked, "hello", said("!"))
    assert found == (Segment("!<|im_end|>", (1, END)),)

import pytest
from tests.fakes.letter_tokenizer import END, LetterTokenizer
from tests.fakes.small_engine import make_job

from semantic.application.engine_job import (
    Job,
    JobArguments,
    JobCall,
    JobEnded,
    JobPiece,
    JobReasoning,
    JobText,
)
from semantic.application.text_stream import TextStream
from semantic.domain.answer_parser import parser_of
from semantic.domain.answer_syntax import AnswerSyntax, ReasoningSyntax
from semantic.domain.chat import FinishReason
from semantic.domain.ids import SequenceId, TokenId
from semantic.domain.sampling import TokenLogprobs
from semantic.domain.step_plan import SampledToken
from semantic.domain.tools import Tool, ToolUse


def answered(text: str, *stops: str, cached: int = 0) -> tuple[Job, tuple[TokenId, ...]]:
    """A job whose answer was `text`."""
    job, _ = make_job(1, tuple(range(10)), stops=stops)
    tokens = LetterTokenizer().encode(text)
    job.sequence.restored(cached)
    job.sequence.prefilled(10 - cached)
    for token in tokens:
        job.sequence.decoded(token)
        job.text.add(token)
    job.text.finish()
    return job, tokens


def test_the_whole_answer_is_remembered() -> None:
    job, tokens = answered("hello", cached=3)
    ended = job.ended(FinishReason.LENGTH)
    assert ended.reason is FinishReason.LENGTH
    assert ended.generated == ended.remembered == tokens
    assert ended.cached_tokens == 3


def test_what_comes_with_a_stop_string_is_not_remembered() -> None:
    job, tokens = answered("heSTOP", "STOP")
    ended = job.ended(FinishReason.STOP)
    assert ended.remembered == tokens[:2]
    assert ended.generated == tokens


@pytest.mark.parametrize(("text", "remembered"), [("xab", None), ("b", ())])
def test_an_answer_that_ends_inside_a_token_is_not_remembered(
    text: str, remembered: tuple[TokenId, ...] | None
) -> None:
    job, _ = answered(text, "b")
    assert job.ended(FinishReason.STOP).remembered == remembered


def told(text: str, *stops: str, end: bool = False) -> list[tuple[str, str]]:
    """The text of each event of an answer, and that of the tokens which come with it."""
    tokenizer = LetterTokenizer()
    job, _ = make_job(1, (0,), stops=stops, stop_tokens=tokenizer.stop_tokens)
    job.sequence.restored(0)
    job.sequence.prefilled(1)
    events: list[JobPiece] = []
    for number, token in enumerate((*tokenizer.encode(text), *([END] if end else []))):
        job.sequence.decoded(token)
        scores = TokenLogprobs(-float(number))
        events += job.took(SampledToken(SequenceId(1), token, scores))
        if job.text.stopped:
            break
    events += job.finish(cut=False)
    texts = [event for event in events if isinstance(event, JobText)]
    assert texts == events
    numbers = [one.logprobs.logprob for event in texts for one in event.tokens]
    assert numbers == [-float(number) for number in range(len(numbers))]
    return [
        (event.text, b"".join(tokenizer.token_bytes(one.token) for one in event.tokens).decode())
        for event in texts
    ]


@pytest.mark.parametrize("end", [False, True])
def test_each_tokens_logprobs_come_with_its_text(*, end: bool) -> None:
    assert told("xéy", end=end) == [("x", "x"), ("é", "é"), ("y", "y")]


def test_logprobs_wait_as_long_as_their_text() -> None:
    assert told("aSTxST", "STOP") == [("a", "a"), ("STx", "STx"), ("ST", "ST")]


def test_what_a_stop_string_cuts_off_has_no_logprobs() -> None:
    assert told("aéSTOP", "éSTOP") == [("a", "a")]


def test_a_token_that_is_shown_in_part_has_logprobs() -> None:
    assert told("xab", "b") == [("x", "x"), ("a", ""), ("", "ab")]


def test_without_logprobs_no_tokens_are_told() -> None:
    job, _ = make_job(1, (0,))
    job.sequence.restored(0)
    job.sequence.prefilled(1)
    assert job.took(SampledToken(SequenceId(1), 5)) == [JobText("%")]
    assert job.finish(cut=False) == []


def said(
    text: str, *stops: str, parallel: bool = True, end: bool = True, cut: bool = False
) -> tuple[list[JobPiece], JobEnded]:
    """What is told of an answer of a model that reasons and may call, each token scored."""
    tokenizer = LetterTokenizer()
    syntax = AnswerSyntax(reasoning=ReasoningSyntax())
    parser = parser_of(syntax, ToolUse((Tool("get"),), parallel=parallel))
    job, _ = make_job(1, (0,), stop_tokens=tokenizer.stop_tokens)
    job.text = TextStream(tokenizer.decoder(), stops, parser)
    job.sequence.restored(0)
    job.sequence.prefilled(1)
    events: list[JobPiece] = []
    for token in (*tokenizer.encode(text), *([END] if end else [])):
        job.sequence.decoded(token)
        events += job.took(SampledToken(SequenceId(1), token, TokenLogprobs(-1.0)))
        if job.text.stopped:
            break
    events += job.finish(cut=cut)
    return events, job.ended(FinishReason.LENGTH if cut else FinishReason.STOP)


CALL = '<tool_call>\n{"name": "get", "arguments": {"x": 1}}\n</tool_call>'


def test_an_answer_is_told_in_its_pieces() -> None:
    events, ended = said(f"<think>\nHm\n</think>\n\nOk\n{CALL}")
    assert "".join(event.text for event in events if isinstance(event, JobReasoning)) == "Hm"
    assert "".join(event.text for event in events if isinstance(event, JobText)) == "Ok"
    assert [event for event in events if isinstance(event, JobCall)] == [JobCall("get")]
    arguments = "".join(event.text for event in events if isinstance(event, JobArguments))
    assert arguments == '{"x": 1}'
    assert ended.reason is FinishReason.TOOL_CALLS
    assert ended.reasoning_tokens == len("<think>\nHm\n</think>\n\n")
    assert ended.remembered == ended.generated


def test_only_tokens_of_the_text_have_logprobs() -> None:
    events, _ = said(f"<think>Hm</think>Ok\n{CALL}")
    scored = [one.token for event in events if isinstance(event, JobText) for one in event.tokens]
    assert LetterTokenizer().decode(scored) == "Ok"


def test_a_stop_string_after_a_call_is_a_stop() -> None:
    _, ended = said(f"{CALL} ENDx", "END", end=False)
    assert (ended.reason, ended.stop) == (FinishReason.STOP, "END")


def test_one_call_is_all_where_one_is_allowed() -> None:
    events, ended = said(f"{CALL}\n{CALL}", parallel=False)
    assert sum(isinstance(event, JobCall) for event in events) == 1
    assert ended.reason is FinishReason.TOOL_CALLS
    assert ended.remembered == LetterTokenizer().encode(CALL)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Ok <tool_c", "Ok "),
        ("Ok\n\n<", "Ok\n"),
        ("Ok\n", "Ok\n"),
        ("<think", ""),
        (f"{CALL}\n<tool_c", CALL),
        (f'{CALL}\n<tool_call>\n{{"name": "g', CALL),
        (f"{CALL}<", CALL),
    ],
)
def test_half_a_mark_is_neither_told_nor_remembered(text: str, shown: str) -> None:
    events, ended = said(text, end=False, cut=True)
    told = "".join(event.text for event in events if isinstance(event, JobText))
    assert told == ("" if shown == CALL else shown)
    assert ended.remembered == LetterTokenizer().encode(shown)
    assert ended.reason is FinishReason.LENGTH


def test_half_a_mark_is_text_where_the_model_ended_with_it() -> None:
    events, ended = said("Ok <tool_c")
    assert "".join(event.text for event in events if isinstance(event, JobText)) == "Ok <tool_c"
    assert ended.remembered == ended.generated


def test_half_a_mark_of_reasoning_is_none() -> None:
    events, _ = said("<think>\nHm </think", end=False, cut=True)
    assert "".join(event.text for event in events if isinstance(event, JobReasoning)) == "Hm"

import pytest
from tests.fakes.letter_tokenizer import LetterTokenizer
from tests.fakes.small_engine import make_job

from semantic.application.engine_job import Job
from semantic.domain.chat import FinishReason
from semantic.domain.ids import TokenId


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

import pytest

from semantic.domain.answer_length import AnswerLength
from semantic.domain.errors import ContextLengthError, InvalidRequestError, KVBudgetError

FREE = AnswerLength(max_context=100, default=10)
TIGHT = AnswerLength(max_context=100, default=10, max_kv=60)


@pytest.mark.parametrize(
    ("prompt", "wanted", "length"),
    [(50, None, 10), (95, None, 5), (50, 1, 1), (50, 50, 50), (99, 1, 1)],
)
def test_it_fits_into_the_context(prompt: int, wanted: int | None, length: int) -> None:
    assert FREE.of(prompt, wanted) == length


@pytest.mark.parametrize(
    ("prompt", "wanted", "length"), [(30, None, 10), (55, None, 5), (50, 10, 10), (59, 1, 1)]
)
def test_it_fits_into_the_budget(prompt: int, wanted: int | None, length: int) -> None:
    assert TIGHT.of(prompt, wanted) == length


@pytest.mark.parametrize(
    ("budget", "prompt", "wanted", "error", "field", "numbers"),
    [
        (FREE, 100, None, ContextLengthError, "messages", ("100",)),
        (FREE, 50, 51, ContextLengthError, "max_tokens", ("50", "51", "100")),
        (TIGHT, 60, None, KVBudgetError, "messages", ("60",)),
        (TIGHT, 70, 5, KVBudgetError, "messages", ("70", "60")),
        (TIGHT, 50, 11, KVBudgetError, "max_tokens", ("50", "11", "60", "at most 10")),
        # What no model could hold is not blamed on the memory.
        (TIGHT, 100, None, ContextLengthError, "messages", ("100",)),
    ],
)
def test_what_never_fits_is_refused_with_the_numbers(
    budget: AnswerLength,
    prompt: int,
    wanted: int | None,
    error: type[InvalidRequestError],
    field: str,
    numbers: tuple[str, ...],
) -> None:
    with pytest.raises(error) as caught:
        budget.of(prompt, wanted)
    assert caught.value.field == field
    assert all(number in str(caught.value) for number in numbers)


@pytest.mark.parametrize(
    ("budget", "prompt", "wanted", "length"),
    [(FREE, 50, 500, 50), (FREE, 50, 20, 20), (FREE, 99, 500, 1), (TIGHT, 50, 500, 10)],
)
def test_what_may_be_shorter_is_as_long_as_there_is_room(
    budget: AnswerLength, prompt: int, wanted: int, length: int
) -> None:
    assert budget.of(prompt, wanted, as_fits=True) == length


@pytest.mark.parametrize(
    ("budget", "prompt", "error"), [(FREE, 100, ContextLengthError), (TIGHT, 60, KVBudgetError)]
)
def test_a_prompt_without_room_for_any_answer_is_refused(
    budget: AnswerLength, prompt: int, error: type[InvalidRequestError]
) -> None:
    with pytest.raises(error) as caught:
        budget.of(prompt, 5, as_fits=True)
    assert caught.value.field == "messages"


@pytest.mark.parametrize("budget", [FREE, TIGHT])
def test_what_was_sent_is_called_by_its_name(budget: AnswerLength) -> None:
    with pytest.raises(InvalidRequestError, match="the prompt takes 70 tokens") as caught:
        AnswerLength(budget.max_context - 30, 10, budget.max_kv).of(70, None, "prompt")
    assert caught.value.field == "prompt"

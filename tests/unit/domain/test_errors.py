import inspect

import pytest

from semantic.domain import errors
from semantic.domain.errors import (
    CachePersistenceError,
    ContextLengthError,
    InvalidRequestError,
    KVBudgetError,
    ModelNotFoundError,
    SemanticError,
    StoreLockedError,
)

ALL = [cls for _, cls in inspect.getmembers(errors, inspect.isclass)]


@pytest.mark.parametrize("error", ALL)
def test_every_error_has_the_same_root(error: type[Exception]) -> None:
    assert issubclass(error, SemanticError)


@pytest.mark.parametrize("error", ALL)
def test_every_error_is_drawn_in_the_tree(error: type[Exception]) -> None:
    assert errors.__doc__ is not None
    assert error.__name__ in errors.__doc__


def test_the_special_cases_are_cases_of_the_general_ones() -> None:
    assert issubclass(ContextLengthError, InvalidRequestError)
    assert issubclass(KVBudgetError, InvalidRequestError)
    assert issubclass(StoreLockedError, CachePersistenceError)


def test_an_invalid_request_names_its_field() -> None:
    error = ContextLengthError("too long", field="messages")
    assert (str(error), error.field) == ("too long", "messages")


def test_a_missing_model_says_where_it_was_looked_for() -> None:
    error = ModelNotFoundError("tiny", tried=("/models/tiny", "the hub"))
    assert str(error) == "model 'tiny' was not found; tried:\n  - /models/tiny\n  - the hub"
    assert (error.model, error.tried) == ("tiny", ("/models/tiny", "the hub"))

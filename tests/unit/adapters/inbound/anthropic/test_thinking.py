import base64
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semantic.adapters.inbound.anthropic import thinking
from semantic.adapters.inbound.anthropic.thinking import reasoning_of, signature


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_hidden_reasoning_comes_back_as_it_was(reasoning: str) -> None:
    assert reasoning_of("", signature(reasoning, shown=False)) == reasoning


def test_a_signature_of_what_is_shown_is_short_and_always_the_same() -> None:
    first, again = (signature("why " * 1000, shown=True) for _ in range(2))
    assert first == again != signature("why not", shown=True)
    assert len(first) < 100


@pytest.mark.parametrize("signed", ["semantic-packed.!", "semantic-packed.QUJD", "", "x"])
def test_a_signature_that_says_nothing_is_no_error(signed: str) -> None:
    assert reasoning_of("", signed) == ""


def test_a_signature_unpacks_to_no_more_than_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thinking, "_MAX_PACKED_TEXT", 100)
    packed = base64.b64encode(zlib.compress(b"x" * 1_000_000)).decode()
    assert len(reasoning_of("", f"semantic-packed.{packed}")) <= 100


def test_an_unfinished_character_at_the_bound_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thinking, "_MAX_PACKED_TEXT", 3)
    assert reasoning_of("", signature("éé", shown=False)) == ""

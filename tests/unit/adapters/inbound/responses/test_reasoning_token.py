import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semantic.adapters.inbound.responses.reasoning_token import opened, sealed


@given(text=st.text(st.characters(codec=None, exclude_categories=())))
@settings(deadline=None, derandomize=True)
def test_reasoning_comes_back_as_it_was(text: str) -> None:
    assert opened(sealed(text)) == text


def test_the_form_stays_as_it_is_documented() -> None:
    assert sealed("hm?") == "semantic-reasoning-1.aG0_"


@pytest.mark.parametrize(
    "token",
    [
        "",
        "gAAAAABo",
        "semantic-reasoning-2.aG0_",
        "semantic-reasoning-1.a",
        "semantic-reasoning-1./w",
    ],
)
def test_what_others_wrote_is_not_understood(token: str) -> None:
    assert opened(token) is None

import pytest

from semantic.domain.api_key import (
    NO_LIMITS,
    ApiKey,
    KeyLimits,
    digest_of,
    key_name,
    matching,
    spelled,
)
from semantic.domain.errors import InvalidRequestError
from semantic.domain.ids import KeyName

KEYS = [ApiKey(KeyName(text), digest_of(text), 0.0) for text in ("a", "b", "")]


def test_a_keys_text_holds_all_of_the_secret() -> None:
    assert spelled(bytes(range(32))) == "sk-semantic-" + bytes(range(32)).hex()
    with pytest.raises(ValueError, match="32"):
        spelled(b"short")


def test_what_is_kept_does_not_hold_the_key() -> None:
    text = spelled(bytes(range(32)))
    assert len(digest_of(text)) == 64
    assert text[-64:] not in digest_of(text)


def test_a_key_is_found_by_its_text_alone() -> None:
    found = matching(KEYS, "b")
    assert found is not None
    assert found.name == "b"
    assert matching(KEYS, digest_of("b")) is None
    assert matching(KEYS, "c") is None
    assert matching([], "a") is None


@pytest.mark.parametrize("offered", ["ü", "\ud800", "a" * 100_000])
def test_any_text_may_be_offered(offered: str) -> None:
    assert matching(KEYS, offered) is None


@pytest.mark.parametrize("name", ["a", "laptop-2", "ci@example.org", "A.b_c", "x" * 64])
def test_a_name_is_short_and_plain(name: str) -> None:
    assert key_name(name) == name


@pytest.mark.parametrize("name", ["", " a", "a b", "a\n", "-a", ".a", "ü", "x" * 65, "a/b"])
def test_anything_else_is_no_name(name: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        key_name(name)
    assert refused.value.field == "name"


def test_a_keys_own_limits_win_over_everybodys() -> None:
    everybodys = KeyLimits(10, 2)
    assert KeyLimits().over(everybodys) == everybodys
    assert KeyLimits(5).over(everybodys) == KeyLimits(5, 2)
    assert NO_LIMITS.over(everybodys) == NO_LIMITS

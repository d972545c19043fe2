import pytest

from semantic.domain.errors import InvalidRequestError
from semantic.domain.tools import Calling, Tool, ToolUse

HAMMER, SAW = Tool("hammer"), Tool("saw")


def test_all_tools_may_be_called_if_nothing_else_is_said() -> None:
    assert ToolUse((HAMMER, SAW)).callable == (HAMMER, SAW)
    assert ToolUse((HAMMER, SAW), only=frozenset(("saw",))).callable == (SAW,)
    assert ToolUse((HAMMER, SAW), Calling.NONE).callable == ()


def test_what_the_conversation_brings_in_may_be_called_and_is_not_listed() -> None:
    use = ToolUse((HAMMER,), told=(SAW,))
    assert use.callable == (HAMMER, SAW)
    assert use.tools == (HAMMER,)
    assert ToolUse((HAMMER,), Calling.REQUIRED, frozenset(("saw",)), told=(SAW,)).callable == (SAW,)
    assert ToolUse((), Calling.REQUIRED, told=(SAW,)).callable == (SAW,)


def test_two_tools_of_one_name_are_refused() -> None:
    for use in ({"tools": (SAW, SAW)}, {"tools": (SAW,), "told": (SAW,)}):
        with pytest.raises(InvalidRequestError, match="saw") as caught:
            ToolUse(**use)
        assert caught.value.field == "tools"


def test_a_tool_that_is_not_there_cannot_be_required() -> None:
    with pytest.raises(InvalidRequestError, match="axe") as caught:
        ToolUse((SAW,), only=frozenset(("axe",)))
    assert caught.value.field == "tool_choice"
    with pytest.raises(InvalidRequestError, match="no tools") as caught:
        ToolUse((), Calling.REQUIRED)
    assert caught.value.field == "tool_choice"

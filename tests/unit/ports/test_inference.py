"""What a model answers to."""

import pytest

from semantic.ports.inference import ModelInfo


@pytest.mark.parametrize(
    ("name", "known"),
    [("own", True), ("default", True), ("claude-x-1", True), ("claude", False), ("OWN", False)],
)
def test_a_model_answers_to_its_name_and_aliases(name: str, *, known: bool) -> None:
    info = ModelInfo("own", 0, 100, ("default", "claude-*"))
    assert info.answers_to(name) is known


def test_without_aliases_it_answers_to_its_name_alone() -> None:
    assert ModelInfo("own", 0, 100).answers_to("own")
    assert not ModelInfo("own", 0, 100).answers_to("default")

"""Every model family restored and uninterrupted: a part of what `make families` runs in full."""

import pytest
from bench.families import BEGIN, DOCUMENT, END, NAMES, Case, cases, measure, row
from tests.fakes.model_families import WINDOW

from semantic.domain.cache_spec import BLOCK_SIZE

IN_BFLOAT16 = ("llama", "gemma3_text", "gpt_oss", "qwen3_next")


def chosen() -> list[Case]:
    """Every family in float32 and one of each kind in bfloat16; one with either window."""
    return [
        case
        for case in cases()
        if (
            case.window in (None, WINDOW)
            and (case.dtype == "float32" or case.family in IN_BFLOAT16)
        )
        or (case.family == "gemma3_text" and case.dtype == "float32")
    ]


@pytest.mark.parametrize(
    "case", chosen(), ids=lambda case: f"{case.family}-{case.dtype}-{case.window}"
)
def test_restored_answers_are_those_of_an_uninterrupted_run(case: Case) -> None:
    window = case.window or 2 * BLOCK_SIZE
    outcome = measure(case, (window - 1, window + 1, BLOCK_SIZE, BLOCK_SIZE + 1))
    assert outcome.right, row(case, outcome)


def test_the_document_has_a_line_for_every_case_and_nothing_went_wrong() -> None:
    text = DOCUMENT.read_text()
    table = text[text.index(BEGIN) : text.index(END)].splitlines()
    lines = [line for line in table if line.startswith("| ") and not line.startswith("| family")]
    for case, line in zip(cases(), lines, strict=True):
        count = len(case.positions())
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert cells[:3] == [NAMES[case.family], case.dtype, str(case.window or "-")]
        assert cells[3:] == ["yes", *[f"{count} of {count}"] * 4]

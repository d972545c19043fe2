import json

import pytest

from semantic.entrypoints.commands import output


def test_columns_are_aligned_by_what_is_seen(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table(("NAME", "N", "X"), [("漢字", "7", "a"), ("bo", "120", "")])
    assert capsys.readouterr().out == "NAME    N  X\n漢字    7  a\nbo    120\n"


def test_nothing_is_cut_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table(("NAME", "PLACE"), [("n" * 200, "p" * 200)])
    assert "n" * 200 + "  " + "p" * 200 in capsys.readouterr().out


def test_json_is_readable_in_any_language(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_json([{"name": "漢字"}])
    out = capsys.readouterr().out
    assert json.loads(out) == [{"name": "漢字"}]
    assert "漢字" in out


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 KB"), (2_500_000, "2.5 MB"), (7e16, "70000.0 TB")],
)
def test_sizes(nbytes: int, text: str) -> None:
    assert output.size(nbytes) == text

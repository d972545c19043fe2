"""What a grammar allows, the reader of answers takes for what was meant, in every family."""

import json
from random import Random

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fakes.answer_syntaxes import SYNTAXES
from tests.fakes.byte_tokenizer import ByteTokenizer
from tests.fakes.recorded_telemetry import RecordedTelemetry

from semantic.adapters.outbound.constraints.guided_answers import GuidedAnswers
from semantic.domain.answer_parser import parser_of
from semantic.domain.answer_pieces import CallArguments, CallBegun, Content
from semantic.domain.answer_syntax import HARMONY_MARKS, AnswerSyntax
from semantic.domain.ids import TokenId
from semantic.domain.tools import Calling, Tool, ToolUse

SCHEMAS = {
    "get_weather": {
        "type": "object",
        "properties": {
            "town": {"type": "string", "maxLength": 5},
            "days": {"type": "integer", "minimum": -3, "maximum": 12},
            "unit": {"type": "string", "enum": ["C", "F"]},
            "at": {"type": ["string", "null"], "maxLength": 3},
        },
        "required": ["town", "at"],
    },
    "time": {"type": "object", "properties": {}},
}
USE = ToolUse(
    tuple(Tool(name, parameters=json.dumps(schema)) for name, schema in SCHEMAS.items()),
    Calling.REQUIRED,
)
FAMILIES: dict[str, AnswerSyntax] = {
    **{name: AnswerSyntax(syntax.calls) for name, syntax in SYNTAXES.items()},
    "GPT-OSS": AnswerSyntax(harmony=True),
}
_LIKELY = b'"}]<\n,x{'
_MOST = 300


def tokens_of(syntax: AnswerSyntax) -> ByteTokenizer:
    return ByteTokenizer(syntax, HARMONY_MARKS if syntax.harmony else ())


MADE = {
    name: GuidedAnswers(tokens_of(one), len(tokens_of(one).pieces), RecordedTelemetry())
    for name, one in FAMILIES.items()
}


def drawn(family: str, chance: Random) -> str | None:
    """An answer that the grammar allows; None if it did not come to an end."""
    tokens = tokens_of(FAMILIES[family])
    constraint = MADE[family].of(USE, None, reasons=False)
    assert constraint is not None
    mask, told = constraint.begin(), b""
    (end,) = tokens.stop_tokens
    pieces = tokens.pieces
    channel = pieces.index(b"<|channel|>") if b"<|channel|>" in pieces else None
    for _ in range(_MOST):
        allowed = mask.allowed()
        assert allowed is not None
        may = [n for n in range(len(pieces)) if allowed[n // 8] >> n % 8 & 1]
        if end in may and chance.random() < 0.7:
            return told.decode()
        likely = [n for n in may if n < 256 and n in _LIKELY] or may
        token = TokenId(chance.choice(likely if chance.random() < 0.6 else may))
        if token == end:
            return told.decode()
        if channel in may:
            token = TokenId(channel)
        mask.accept(token)
        told += pieces[token]
    return None


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32), size=st.integers(1, 7))
def test_calls_are_read_as_they_were_meant(family: str, seed: int, size: int) -> None:
    text = drawn(family, Random(seed))  # noqa: S311 - an example
    if text is None:
        return
    reader = parser_of(FAMILIES[family], USE)
    read = [piece for at in range(0, len(text), size) for piece in reader.add(text[at : at + size])]
    read += reader.finish()
    calls: list[tuple[str, str]] = []
    for piece in read:
        if isinstance(piece, CallBegun):
            calls.append((piece.name, ""))
        elif isinstance(piece, CallArguments):
            name, arguments = calls[-1]
            calls[-1] = (name, arguments + piece.text)
        else:
            assert not isinstance(piece, Content) or not piece.text.strip(), text
    assert calls, text
    for name, arguments in calls:
        jsonschema.validate(json.loads(arguments), SCHEMAS[name])

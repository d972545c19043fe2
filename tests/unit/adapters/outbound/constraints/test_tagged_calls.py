"""Calls whose arguments stand between tags: what is allowed is what is read."""

import json
from typing import Any

import jsonschema
import pytest
from tests.fakes.answer_syntaxes import GLM, QWEN_XML
from tests.fakes.byte_tokenizer import ByteTokenizer
from tests.fakes.recorded_telemetry import RecordedTelemetry

from semantic.adapters.outbound.constraints.guided_answers import GuidedAnswers
from semantic.domain.answer_parser import parser_of
from semantic.domain.answer_pieces import CallArguments, Content
from semantic.domain.answer_syntax import AnswerSyntax, ArgumentTags, CallSyntax
from semantic.domain.tools import Calling, Tool, ToolUse

BARE = CallSyntax(
    trigger="<tool_call>",
    opening="<tool_call>",
    naming="",
    closing="</tool_call>",
    arguments=GLM.arguments,
    tags=ArgumentTags("<arg_key>", "</arg_key><arg_value>", "</arg_value>"),
)
"""As GLM 4.7 writes them: without a line's end anywhere."""
FAMILIES = {"Qwen": QWEN_XML, "GLM": GLM, "GLM 4.7": BARE}


class Called:
    """One tool's calls by a model of a family, required."""

    def __init__(self, schema: object, family: str = "Qwen", *special: str) -> None:
        self.syntax = AnswerSyntax(FAMILIES[family])
        self.use = ToolUse((Tool("f", "", json.dumps(schema)),), Calling.REQUIRED)
        self.tokens = ByteTokenizer(self.syntax, special)
        self.telemetry = RecordedTelemetry()
        made = GuidedAnswers(self.tokens, len(self.tokens.pieces), self.telemetry)
        self.constraint = made.of(self.use, None, reasons=False)

    @property
    def warned(self) -> bool:
        return "tool_schema_not_held" in self.telemetry.names()

    def written(self, *told: tuple[str, str]) -> str:
        calls = self.syntax.calls
        tags = calls.tags
        told_of = "".join(f"{tags.begin}{key}{tags.naming}{value}{tags.end}" for key, value in told)
        return f"{calls.opening}f{calls.naming}{told_of}{calls.closing}"

    def takes(self, *told: tuple[str, str]) -> bool:
        """Whether the call is allowed; what is allowed is read as it is meant."""
        assert self.constraint is not None
        mask, text = self.constraint.begin(), self.written(*told)
        for token in self.tokens.encode(text):
            allowed = mask.allowed()
            if allowed is not None and not allowed[token // 8] >> token % 8 & 1:
                return False
            mask.accept(token)
        (end,) = self.tokens.stop_tokens
        allowed = mask.allowed()
        assert allowed is not None
        return bool(allowed[end // 8] >> end % 8 & 1)

    def read(self, *told: tuple[str, str]) -> dict[str, Any]:
        text = self.written(*told)
        parser = parser_of(self.syntax, self.use)
        pieces = [piece for letter in text for piece in parser.add(letter)]
        pieces += parser.finish()
        assert not [one for one in pieces if isinstance(one, Content) and one.text.strip()]
        arguments = "".join(one.text for one in pieces if isinstance(one, CallArguments))
        found: dict[str, Any] = json.loads(arguments)
        return found


def properties(**schemas: object) -> dict[str, object]:
    return {"type": "object", "properties": schemas, "required": [*schemas][:1]}


@pytest.mark.parametrize("family", FAMILIES)
def test_text_never_holds_the_mark_that_ends_it(family: str) -> None:
    called = Called(properties(s={"type": "string"}, t={"type": "string"}), family)
    tags = FAMILIES[family].tags
    mark = tags.end.strip()
    assert called.takes(("s", "a </ b\n\n"))
    assert called.read(("s", "a </ b\n\n")) == {"s": "a </ b\n\n"}
    assert not called.takes(("s", f"see {mark} here"))
    inside = ("s", f"x{mark} \n{tags.begin}t{tags.naming}y")
    assert not called.takes(inside)


@pytest.mark.parametrize("family", FAMILIES)
def test_json_may_hold_the_mark_in_a_string(family: str) -> None:
    called = Called(properties(s={}, t={"type": "array"}), family)
    tags = FAMILIES[family].tags
    injected = f'a "{tags.end.strip()}{tags.begin}t{tags.naming}[]'
    told = [("s", json.dumps(injected)), ("t", json.dumps(["\\", {injected: "x"}]))]
    assert called.takes(*told)
    assert called.read(*told) == {"s": injected, "t": ["\\", {injected: "x"}]}


@pytest.mark.parametrize("special", [("</parameter>",), ("<parameter=", "</parameter>")])
def test_a_mark_that_is_a_token_ends_text_of_several_lines(special: tuple[str, ...]) -> None:
    called = Called(properties(s={"type": "string"}), "Qwen", *special)
    assert called.takes(("s", "a\nb"))
    assert called.takes(("s", ""))


@pytest.mark.parametrize("family", FAMILIES)
def test_any_arguments_end_where_they_are_read_to_end(family: str) -> None:
    called = Called({"type": "object"}, family)
    tags = FAMILIES[family].tags
    told = ("s", f'"{tags.end.strip()}{tags.begin}t{tags.naming}"')
    assert not called.takes(told)
    assert called.takes(("s", '{"a": 1}'), ("t", "b"))
    assert called.read(("s", '{"a": 1}'), ("t", "b")) == {"s": {"a": 1}, "t": "b"}


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"pattern": "^a+$"}, "aa", "ab"),
        ({"pattern": "a/b"}, "xa/by", "ab"),
        ({"pattern": "^(a|b)$"}, "b", "ab"),
        ({"pattern": r"^\$"}, "$x", "x$"),
        ({"pattern": r"\$"}, "x$x", "x"),
        ({"pattern": "^a+$", "maxLength": 2}, "aa", "aaa"),
        ({"enum": ["a\nb", " c "]}, " c ", "c"),
        ({"const": ""}, "", "x"),
    ],
)
def test_text_is_held_to_its_schema(schema: dict[str, object], good: str, bad: str) -> None:
    whole = properties(s={"type": "string", **schema})
    called = Called(whole)
    assert called.takes(("s", good))
    jsonschema.validate(called.read(("s", good)), whole)
    assert not called.takes(("s", bad))
    assert not called.warned


@pytest.mark.parametrize(
    "schema",
    [
        properties(s={"type": "string", "format": "date"}),
        properties(s={"type": "string", "pattern": "^a|b$"}),
        properties(s={"type": "string", "pattern": "(?=a)"}),
        properties(s={"type": "string", "enum": ["</parameter>", "s"]}),
        {**properties(s={"type": "string"}), "minProperties": 1},
        {"properties": {"s": {"type": "string"}, "a>b": {}}},
    ],
)
def test_what_is_not_held_is_told(schema: dict[str, object]) -> None:
    called = Called(schema)
    assert called.warned
    assert called.takes(("s", "s"))


def test_references_are_the_tools() -> None:
    called = Called(
        {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "s": {"$ref": "#/properties/a"}},
            "required": ["s"],
        }
    )
    assert called.takes(("s", "5"))
    assert not called.takes(("s", '"5"'))
    own = Called({"type": "object", "properties": {"s": {"$ref": "#"}}})
    assert own.takes(("s", '{"s": {"s": {}}}'))
    assert not own.takes(("s", "[]"))


@pytest.mark.parametrize("key", ["anyOf", "oneOf", "allOf"])
def test_arguments_may_be_named_where_a_schema_is_put_together(key: str) -> None:
    part = {"properties": {"s": {"type": "integer"}, "t": {"type": "string"}}, "required": ["s"]}
    called = Called({"type": "object", key: [part]})
    assert called.takes(("s", "5"), ("t", "5"))
    assert called.read(("s", "5"), ("t", "5")) == {"s": 5, "t": "5"}
    assert not called.takes(("s", "zzz"))
    assert not called.takes(("t", "5"))


def test_arguments_are_there_in_one_of_several_ways() -> None:
    ways = [{"required": ["a"]}, {"required": ["b"]}]
    called = Called({"properties": {"a": {"type": "string"}, "b": {}}, "anyOf": ways})
    assert called.takes(("a", "x"))
    assert called.takes(("b", "1"))
    assert not called.takes()


def test_a_schema_may_stand_elsewhere() -> None:
    called = Called({"$ref": "#/$defs/f", "$defs": {"f": properties(s={"type": "string"})}})
    assert called.takes(("s", "5"))
    assert called.read(("s", "5")) == {"s": "5"}
    assert not called.takes()


def test_arguments_that_are_not_named_have_a_schema() -> None:
    called = Called({"type": "object", "additionalProperties": {"type": "integer"}})
    assert called.takes(("s", "5"), ("t", "6"))
    assert not called.takes(("s", "zzz"))
    texts = {**properties(a={"type": "integer"}), "additionalProperties": {"type": "string"}}
    named = Called(texts)
    assert named.takes(("a", "1"), ("s", "5"))
    assert named.read(("a", "1"), ("s", "5")) == {"a": 1, "s": "5"}
    assert not named.takes(("a", "1"), ("a", "x"))


def test_what_is_too_much_of_a_tool_leaves_its_arguments_names() -> None:
    big = {"type": "integer", "multipleOf": 99991, "minimum": 3, "maximum": 10**12}
    called = Called(properties(a=big, s={"type": "string"}))
    assert called.warned
    assert called.takes(("a", "5"), ("s", "5"))
    assert not called.takes(("s", "5"))

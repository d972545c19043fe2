import json
import re
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fakes import answer_syntaxes
from tests.fakes.answer_syntaxes import LLAMA, SYNTAXES
from tests.fakes.byte_tokenizer import ByteTokenizer
from tests.fakes.recorded_telemetry import RecordedTelemetry

from semantic.adapters.outbound.constraints.guided_answers import GuidedAnswers
from semantic.adapters.outbound.constraints.schemas import MOST_PROPERTIES
from semantic.domain.answer_syntax import (
    HERMES,
    AnswerSyntax,
    Arguments,
    CallSyntax,
    ReasoningSyntax,
)
from semantic.domain.errors import EngineError, InvalidRequestError
from semantic.domain.ids import TokenId
from semantic.domain.tools import NO_TOOLS, Calling, JsonAnswer, Tool, ToolUse
from semantic.ports.answer_constraints import Constraint, TokenMask

WEATHER = Tool(
    "get_weather",
    parameters=json.dumps(
        {
            "type": "object",
            "properties": {
                "town": {"type": "string"},
                "days": {"type": "integer"},
                "unit": {"type": "string", "enum": ["C", "F"]},
            },
            "required": ["town"],
        }
    ),
)
TIME = Tool("time", parameters='{"type": "object", "properties": {}}')
TOOLS = (WEATHER, TIME)
CALL = (
    '<tool_call>\n{"name": "get_weather", "arguments": {"town": "Bonn", "days": 2}}\n</tool_call>'
)
TIME_CALL = '<tool_call>\n{"name": "time", "arguments": {}}\n</tool_call>'

THINKING = AnswerSyntax(reasoning=ReasoningSyntax())
MISTRAL = AnswerSyntax(answer_syntaxes.MISTRAL)
AROUND = AnswerSyntax(
    CallSyntax(
        trigger="<|calls|>",
        opening="<|call|>functions.",
        naming="<|args|>",
        closing="<|/call|>",
        between="",
        before="<|calls|>",
        after="<|/calls|>",
    )
)
QWEN = AnswerSyntax(
    CallSyntax(
        trigger="<tool_call>",
        opening="<tool_call>\n<function=",
        naming=">\n",
        closing="</function>\n</tool_call>",
        arguments=Arguments.TAGGED,
    ),
    ReasoningSyntax(),
)
HARMONY = AnswerSyntax(harmony=True)
HARMONY_MARKS = ("<|channel|>", "<|message|>", "<|start|>", "<|constrain|>")


def tokenizer(syntax: AnswerSyntax = AnswerSyntax(), *special: str) -> ByteTokenizer:  # noqa: B008 - frozen
    return ByteTokenizer(syntax, special)


class Answers:
    """What answers a constraint allows, tried token by token."""

    def __init__(self, constraint: Constraint | None, tokens: ByteTokenizer) -> None:
        assert constraint is not None
        self._constraint = constraint
        self._tokens = tokens

    def begins(self, text: str) -> bool:
        """Whether an answer may begin so; every mask on the way agrees with what is accepted."""
        return self._walk(text) is not None

    def takes(self, text: str) -> bool:
        """Whether this may be an answer."""
        ends = self._walk(text)
        return bool(ends)

    def _walk(self, text: str) -> bool | None:
        mask = self._constraint.begin()
        (end,) = self._tokens.stop_tokens
        for token in self._tokens.encode(text):
            if not allows(mask.allowed(), token):
                return None
            mask.accept(token)
        return allows(mask.allowed(), end)


def follow(mask: TokenMask, tokens: Sequence[TokenId]) -> None:
    for token in tokens:
        mask.allowed()
        mask.accept(token)


def allows(mask: bytes | None, token: TokenId) -> bool:
    return mask is None or bool(mask[token // 8] >> token % 8 & 1)


def answers(
    use: ToolUse = NO_TOOLS,
    form: JsonAnswer | None = None,
    tokens: ByteTokenizer | None = None,
    *,
    reasons: bool = False,
) -> Answers:
    tokens = tokens or tokenizer()
    made = GuidedAnswers(tokens, len(tokens.pieces), RecordedTelemetry())
    return Answers(made.of(use, form, reasons=reasons), tokens)


def test_nothing_is_asked_of_an_answer_without_tools_and_form() -> None:
    tokens = tokenizer()
    assert GuidedAnswers(tokens, 300, RecordedTelemetry()).of(NO_TOOLS, None, reasons=False) is None


class TestTextThatMayCall:
    def test_is_any_text(self) -> None:
        found = answers(ToolUse(TOOLS))
        assert found.takes("")
        assert found.takes("Hello <tool> {} é\n</think>")

    def test_ends_with_calls_once_they_are_begun(self) -> None:
        found = answers(ToolUse(TOOLS))
        assert found.takes("Let me see. " + CALL)
        assert found.takes(CALL + "\n" + TIME_CALL)
        assert not found.begins("<tool_call> or so")
        assert not found.takes(CALL[:-1])
        assert not found.begins(CALL + " and")

    def test_calls_only_what_may_be_called(self) -> None:
        found = answers(ToolUse(TOOLS, only=frozenset({"time"})))
        assert found.takes(TIME_CALL)
        assert not found.begins(CALL)

    def test_calls_once_if_it_may_not_more_often(self) -> None:
        found = answers(ToolUse(TOOLS, parallel=False))
        assert found.takes(CALL)
        assert not found.begins(CALL + "\n")

    @pytest.mark.parametrize(
        "arguments",
        [
            '{"days": 2}',  # the town is missing
            '{"town": 3}',
            '{"town":"Bonn"}',  # not spaced as it is in a prompt
            '{"town": "Bonn", "unit": "K"}',
            '{"town": "Bonn", "country": "D"}',  # it takes nothing else
            '{"days": 2, "town": "Bonn"}',  # not in the schema's order
        ],
    )
    def test_holds_arguments_to_the_schema(self, arguments: str) -> None:
        opening = '<tool_call>\n{"name": "get_weather", "arguments": '
        found = answers(ToolUse(TOOLS))
        assert found.takes(opening + '{"town": "\\"é", "unit": "C"}}\n</tool_call>')
        assert not found.begins(opening + arguments + "}")


def test_what_a_tool_requires_without_naming_it_is_there() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a", "b"]}
    found = answers(ToolUse((Tool("f", "", json.dumps(schema)),), Calling.REQUIRED))
    opening = '<tool_call>\n{"name": "f", "arguments": '
    assert found.takes(opening + '{"a": 1, "b": null}}\n</tool_call>')
    assert not found.begins(opening + "{}")
    assert not found.begins(opening + '{"a": 1}')


@pytest.mark.parametrize(
    "schema",
    [
        {"const": 2**63 + 1},
        {"enum": [1, -(2**53) - 1]},
        {"type": "integer", "minimum": 10**20},
        {"type": "array", "items": {"exclusiveMaximum": -(10**19)}},
    ],
)
def test_numbers_that_would_be_taken_for_others_are_refused(schema: dict[str, object]) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        COMPILED.of(NO_TOOLS, JsonAnswer(json.dumps(schema)), reasons=False)
    assert caught.value.field == "response_format"


def test_a_form_that_breaks_in_its_first_steps_is_refused() -> None:
    big = {"type": "integer", "multipleOf": 99991, "minimum": 3, "maximum": 10**12}
    for reasons in (False, True):
        made = GuidedAnswers(tokenizer(THINKING), 300, RecordedTelemetry())
        with pytest.raises(InvalidRequestError) as caught:
            made.of(NO_TOOLS, JsonAnswer(json.dumps(big)), reasons=reasons)
        assert caught.value.field == "response_format"


def test_as_many_properties_as_are_let_in_are_held() -> None:
    schema = {
        "type": "object",
        "properties": {f"p{n}": {"type": "integer"} for n in range(MOST_PROPERTIES)},
    }
    text = json.dumps(schema)
    assert answers(form=JsonAnswer(text)).takes('{"p7": 1, "p999": 2}')
    found = answers(ToolUse((Tool("f", parameters=text),)))
    assert found.takes(
        '<tool_call>\n{"name": "f", "arguments": {"p3": 1, "p998": 2}}\n</tool_call>'
    )
    assert not found.begins('<tool_call>\n{"name": "f", "arguments": {"p3": 1, "q')


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "minItems": 10**6},
        {"prefixItems": [{"properties": {f"{n}": {} for n in range(999)}} for _ in range(15)]},
    ],
)
def test_what_takes_long_is_refused_at_once(schema: dict[str, object]) -> None:
    begin = time.monotonic()
    with pytest.raises(InvalidRequestError):
        COMPILED.of(NO_TOOLS, JsonAnswer(json.dumps(schema)), reasons=False)
    assert time.monotonic() - begin < 1


def test_what_was_made_is_known() -> None:
    tokens = tokenizer()
    made = GuidedAnswers(tokens, len(tokens.pieces), RecordedTelemetry())
    use, form = ToolUse(TOOLS), JsonAnswer()
    assert made.known(use, form, reasons=False) is None
    found = made.of(use, form, reasons=False)
    assert found is not None
    assert made.known(use, form, reasons=False) is found
    assert made.known(use, None, reasons=False) is None
    assert made.known(use, form, reasons=True) is None


def test_a_refusal_is_remembered() -> None:
    made = GuidedAnswers(tokenizer(), 300, RecordedTelemetry())
    refused = JsonAnswer('{"type": "string", "pattern": "(?=a)b"}')
    errors = []
    for _ in range(3):
        with pytest.raises(InvalidRequestError) as caught:
            made.of(NO_TOOLS, refused, reasons=False)
        assert caught.value.field == "response_format"
        errors.append(caught.value.__cause__)
    assert errors[0] is errors[1] is errors[2]


def test_of_a_schema_beyond_the_limits_a_tools_arguments_are_there() -> None:
    schema = {
        "properties": {"a": {"type": "array", "minItems": 10**6}, "b": {"type": "string"}},
        "required": ["b"],
    }
    found = answers(ToolUse((Tool("f", parameters=json.dumps(schema)),), Calling.REQUIRED))
    opening = '<tool_call>\n{"name": "f", "arguments": {'
    assert found.takes(opening + '"a": [], "b": "x"}}\n</tool_call>')
    assert not found.begins(opening + "}")


def test_bounds_of_64_bits_are_held() -> None:
    schema = {"type": "integer", "minimum": -(2**63), "maximum": 2**64 - 1}
    assert answers(form=JsonAnswer(json.dumps(schema))).takes("-12")


def test_an_answer_without_calls_never_begins_one() -> None:
    found = answers(ToolUse(TOOLS, Calling.NONE))
    assert found.takes("<tool_cal and <tool_calls")
    assert not found.begins("so <tool_call>")


class TestRequiredCalls:
    def test_come_at_once(self) -> None:
        found = answers(ToolUse(TOOLS, Calling.REQUIRED))
        assert found.takes(CALL)
        assert not found.takes("")
        assert not found.begins("L")

    def test_come_after_reasoning(self) -> None:
        tokens = tokenizer(THINKING)
        found = answers(ToolUse(TOOLS, Calling.REQUIRED), tokens=tokens)
        thought = "<think>\nA <tool_call> it is.\n</think>\n\n"
        assert found.takes(CALL)
        assert found.takes(thought + CALL)
        assert not found.takes(thought)
        assert not found.begins(thought + "L")
        begun = answers(ToolUse(TOOLS, Calling.REQUIRED), tokens=tokens, reasons=True)
        assert begun.takes("So.</think>" + CALL)
        assert not begun.takes(CALL)


class TestReasoning:
    @pytest.mark.parametrize("special", [(), ("<think>", "</think>")])
    def test_may_come_first(self, special: tuple[str, ...]) -> None:
        found = answers(ToolUse(TOOLS), tokens=tokenizer(THINKING, *special))
        assert found.takes("Text.")
        assert found.takes("<think>A call?</think>Text. " + CALL)
        assert found.takes("<think></think>")

    def test_may_speak_of_calls(self) -> None:
        for calling in (Calling.AUTO, Calling.NONE):
            found = answers(ToolUse(TOOLS, calling), tokens=tokenizer(THINKING))
            assert found.takes("<think>No <tool_call> here.</think>Text.")
            assert not found.begins("Text with a <tool_call> in it")

    def test_goes_on_where_the_prompt_ends_in_it(self) -> None:
        found = answers(ToolUse(TOOLS), tokens=tokenizer(THINKING), reasons=True)
        assert found.takes("Well, a <tool_call>")
        assert found.takes("Well.</think>\n" + CALL)
        assert not found.begins("</think><tool_call> no")

    def test_comes_before_json(self) -> None:
        form = JsonAnswer('{"type": "integer"}')
        found = answers(form=form, tokens=tokenizer(THINKING), reasons=True)
        assert found.takes("Well.</think>\n\n12")
        assert not found.takes("12")


class TestMarksThatAreTokens:
    def test_are_named(self) -> None:
        tokens = tokenizer(MISTRAL, "[TOOL_CALLS]", "[ARGS]")
        found = answers(ToolUse(TOOLS), tokens=tokens)
        assert found.takes(
            'Text [TOOL_CALLS]get_weather[ARGS]{"town": "Bonn"}[TOOL_CALLS]time[ARGS]{}'
        )
        assert not found.begins("[ARGS]")
        assert not found.begins("[TOOL_CALLS]when")
        assert not answers(ToolUse(TOOLS, Calling.NONE), tokens=tokens).begins("[TOOL_CALLS]")

    def test_may_stand_around_all_calls(self) -> None:
        marks = ("<|calls|>", "<|/calls|>", "<|call|>", "<|/call|>", "<|args|>")
        one = "<|call|>functions.time<|args|>{}<|/call|>"
        for tokens in (tokenizer(AROUND, *marks), tokenizer(AROUND)):
            found = answers(ToolUse(TOOLS), tokens=tokens)
            assert found.takes(f"Text<|calls|>{one}{one}<|/calls|>")
            assert not found.takes(f"<|calls|>{one}")


class TestTaggedArguments:
    OPENING = "<tool_call>\n<function=get_weather>\n"
    CLOSING = "</function>\n</tool_call>"
    TOWN = "<parameter=town>\nBonn, </parameters> \n{é}\n</parameter>\n"

    def found(self, *tools: Tool) -> Answers:
        return answers(ToolUse(tools or TOOLS, Calling.REQUIRED), tokens=tokenizer(QWEN))

    def test_are_text_where_they_are_strings_and_json_elsewhere(self) -> None:
        found = self.found()
        days = "<parameter=days>\n3\n</parameter>\n"
        unit = "<parameter=unit>\nF\n</parameter>\n"
        assert found.takes(self.OPENING + self.TOWN + days + unit + self.CLOSING)
        assert found.takes(self.OPENING + self.TOWN + unit + self.CLOSING)
        assert not found.begins(self.OPENING + self.TOWN + days.replace("3", "x"))
        assert not found.begins(self.OPENING + self.TOWN + unit.replace("F", "K"))

    def test_are_there_where_they_are_required(self) -> None:
        found = self.found()
        assert not found.begins(self.OPENING + self.CLOSING)
        assert found.takes("<tool_call>\n<function=time>\n" + self.CLOSING)

    def test_may_refer_to_what_the_schema_defines(self) -> None:
        schema = {
            "properties": {"at": {"$ref": "#/$defs/point"}},
            "$defs": {"point": {"type": "array", "items": {"type": "integer"}}},
            "required": ["at", "why"],
        }
        found = self.found(Tool("get_weather", parameters=json.dumps(schema)))
        told = "<parameter=at>\n[1, 2]\n</parameter>\n<parameter=why>\ntrue\n</parameter>\n"
        assert found.takes(self.OPENING + told + self.CLOSING)
        assert not found.begins(self.OPENING + "<parameter=at>\n1")

    def test_are_any_where_none_are_named(self) -> None:
        found = self.found(Tool("get_weather", parameters='{"type": "object"}'))
        assert found.takes(self.OPENING + self.CLOSING)
        assert found.takes(self.OPENING + self.TOWN + self.TOWN + self.CLOSING)

    def test_are_as_long_as_they_may_be(self) -> None:
        schema = '{"properties": {"town": {"type": "string", "maxLength": 3, "minLength": 2}}}'
        found = self.found(Tool("get_weather", parameters=schema))
        told = "<parameter=town>\n{}\n</parameter>\n"
        assert found.takes(self.OPENING + told.format("Bon") + self.CLOSING)
        assert not found.begins(self.OPENING + told.format("Bonn"))
        assert not found.begins(self.OPENING + told.format("B"))


def call_of(syntax: CallSyntax, name: str, town: str, number: int) -> str:
    """A call as a model of that family writes it."""
    told = name + (f":{number}" if syntax.numbered else "")
    arguments = json.dumps({"town": town})
    if syntax.arguments is Arguments.TAGGED:
        tags = syntax.tags
        arguments = f"{tags.begin}town{tags.naming}{town}{tags.end}"
    return f"{syntax.opening}{told}{syntax.naming}{arguments}{syntax.closing}"


@pytest.mark.parametrize("family", SYNTAXES)
@pytest.mark.parametrize("as_tokens", [True, False])
def test_calls_are_written_as_each_family_does(family: str, *, as_tokens: bool) -> None:
    syntax = SYNTAXES[family]
    calls = syntax.calls
    written = f"{calls.before}{calls.opening}{calls.naming}{calls.closing}{calls.after}"
    marks = re.findall(r"<[^<>=\n]+>|\[[A-Z_]+\]", written)
    tokens = tokenizer(syntax, *(dict.fromkeys(marks) if as_tokens else ()))
    one, two = (call_of(calls, "get_weather", town, n) for n, town in enumerate(("Bonn", "Rom")))
    for calling in (Calling.AUTO, Calling.REQUIRED):
        found = answers(ToolUse(TOOLS, calling), tokens=tokens)
        text = "Let me see." + calls.lead if calling is Calling.AUTO else ""
        assert found.takes(text + calls.before + one + calls.after)
        assert found.takes(text + calls.before + one + calls.between + two + calls.after)
        assert not found.begins(text + calls.before + one.replace("get_", "got_"))
    free = answers(ToolUse(TOOLS, Calling.NONE), tokens=tokens)
    assert not free.begins("Text" + calls.before + calls.opening)


class TestHarmony:
    ANALYSIS = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant"
    CALL = "<|channel|>commentary to=functions.time <|constrain|>json<|message|>{}"
    FINAL = "<|channel|>final<|message|>Now."

    @pytest.fixture
    def tokens(self) -> ByteTokenizer:
        return tokenizer(HARMONY, *HARMONY_MARKS, "<|end|>")

    def test_answers_in_channels(self, tokens: ByteTokenizer) -> None:
        found = answers(ToolUse(TOOLS), tokens=tokens)
        says = "<|channel|>commentary<|message|>I look.<|end|><|start|>assistant"
        assert found.takes(self.ANALYSIS + self.FINAL)
        assert found.takes(self.FINAL)
        assert found.takes(self.ANALYSIS + says + self.CALL)
        assert not found.begins("Text")
        assert not found.takes(self.ANALYSIS)

    def test_calls_where_it_must(self, tokens: ByteTokenizer) -> None:
        found = answers(ToolUse(TOOLS, Calling.REQUIRED), tokens=tokens)
        assert found.takes(self.ANALYSIS + self.CALL)
        assert not found.begins(self.FINAL)

    def test_does_not_where_it_must_not(self, tokens: ByteTokenizer) -> None:
        found = answers(ToolUse(TOOLS, Calling.NONE), tokens=tokens)
        assert found.takes(self.FINAL)
        assert not found.begins(self.CALL)

    def test_says_json_in_the_end(self, tokens: ByteTokenizer) -> None:
        found = answers(form=JsonAnswer(), tokens=tokens)
        assert found.takes(self.ANALYSIS + '<|channel|>final<|message|>{"a": [1]}')
        assert not found.begins(self.FINAL)


class TestJson:
    def test_is_of_the_schema(self) -> None:
        schema = {
            "type": "object",
            "properties": {"b": {"type": "integer"}, "a": {"type": "array", "items": {}}},
            "required": ["a", "b"],
            "additionalProperties": False,
        }
        found = answers(form=JsonAnswer(json.dumps(schema)))
        assert found.takes('{"b": 1, "a": ["x", {}]}')
        assert not found.begins('{"a"')
        assert not found.takes("")

    def test_may_be_any_object(self) -> None:
        found = answers(form=JsonAnswer())
        assert found.takes('{"any": [1, null], "é": {}}')
        assert not found.begins("[")

    def test_or_calls_come(self) -> None:
        found = answers(ToolUse(TOOLS), JsonAnswer())
        assert found.takes("{}")
        assert found.takes(CALL)
        assert not found.begins("Text")

    @pytest.mark.parametrize("named", [{"type": "string"}, {"enum": ["Ann", "time"]}, None])
    def test_may_begin_as_calls_do_that_are_json(self, named: object) -> None:
        form = JsonAnswer()
        if named is not None:
            schema = {"type": "object", "properties": {"name": named}, "required": ["name"]}
            form = JsonAnswer(json.dumps(schema | {"additionalProperties": False}))
        found = answers(ToolUse(TOOLS), form, tokenizer(AnswerSyntax(LLAMA)))
        call = '{"name": "time", "parameters": {}}'
        assert found.takes('{"name": "Ann"}')
        assert found.takes('{"name": "time"}')
        assert found.takes(call)
        assert found.takes(f"{call}; {call}")
        assert not found.begins("Text")

    def test_gives_way_to_required_calls(self) -> None:
        found = answers(ToolUse(TOOLS, Calling.REQUIRED), JsonAnswer())
        assert found.takes(CALL)
        assert not found.begins("{")


class TestMasks:
    def test_allow_anything_after_the_end(self) -> None:
        tokens = tokenizer()
        made = GuidedAnswers(tokens, len(tokens.pieces), RecordedTelemetry())
        constraint = made.of(NO_TOOLS, JsonAnswer('{"const": 1}'), reasons=False)
        assert constraint is not None
        mask = constraint.begin()
        mask.accept(TokenId(ord("1")))
        mask.accept(next(iter(tokens.stop_tokens)))
        assert mask.allowed() is None
        mask.accept(TokenId(ord("x")))
        assert mask.allowed() is None

    def test_refuse_what_they_did_not_allow(self) -> None:
        tokens = tokenizer()
        made = GuidedAnswers(tokens, len(tokens.pieces), RecordedTelemetry())
        constraint = made.of(NO_TOOLS, JsonAnswer('{"const": 1}'), reasons=False)
        assert constraint is not None
        with pytest.raises(EngineError):
            constraint.begin().accept(TokenId(ord("x")))

    def test_break_with_the_field_to_change(self) -> None:
        """What is too much may show only in the middle of an answer."""
        big = {"type": "integer", "multipleOf": 99991, "minimum": 3, "maximum": 10**12}
        late = {"type": "array", "prefixItems": [*[{"type": "boolean"}] * 20, big], "minItems": 21}
        tokens = tokenizer()
        made = GuidedAnswers(tokens, len(tokens.pieces), RecordedTelemetry())
        use = ToolUse((Tool("f", parameters=json.dumps({"properties": {"a": late}})),))
        for told, form, field, begin in (
            (NO_TOOLS, JsonAnswer(json.dumps(late)), "response_format", ""),
            (use, None, "tools", '<tool_call>\n{"name": "f", "arguments": {"a": '),
        ):
            constraint = made.of(told, form, reasons=False)
            assert constraint is not None
            mask = constraint.begin()
            with pytest.raises(InvalidRequestError) as caught:
                follow(mask, tokens.encode(begin + "[" + "true, " * 20 + "99991]"))
            assert caught.value.field == field

    def test_cover_all_that_the_model_has_logits_for(self) -> None:
        """Models have more logits than tokens; what is no token never comes."""
        tokens = tokenizer()
        constraint = GuidedAnswers(tokens, 1000, RecordedTelemetry()).of(
            ToolUse(TOOLS), None, reasons=False
        )
        assert constraint is not None
        mask = constraint.begin().allowed()
        assert mask is not None
        assert len(mask) * 8 >= 1000
        assert not any(allows(mask, TokenId(token)) for token in range(len(tokens.pieces), 1000))

    @settings(max_examples=30, deadline=None)
    @given(seed=st.integers(0, 2**32))
    def test_are_never_empty_and_lead_to_the_end(self, seed: int) -> None:
        chance = Random(seed)  # noqa: S311 - an example
        tokens = tokenizer()
        use = ToolUse(TOOLS, Calling.REQUIRED, parallel=False)
        constraint = COMPILED.of(use, None, reasons=False)
        assert constraint is not None
        mask, told = constraint.begin(), b""
        for _ in range(120):
            allowed = mask.allowed()
            if allowed is None:
                break
            choices = [n for n in range(len(tokens.pieces)) if allows(allowed, TokenId(n))]
            token = TokenId(chance.choice(choices))
            mask.accept(token)
            told += tokens.token_bytes(token)
        if mask.allowed() is None:
            text = told.decode().removesuffix("<end>")
            call = json.loads(text.removeprefix("<tool_call>").removesuffix("</tool_call>"))
            assert call["name"] in {"get_weather", "time"}
            assert set(call["arguments"]) <= {"town", "days", "unit"}


COMPILED = GuidedAnswers(tokenizer(), len(tokenizer().pieces), RecordedTelemetry())


def nested(depth: int) -> dict[str, object]:
    schema: dict[str, object] = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


HOSTILE: dict[str, Callable[[], object]] = {
    "a million choices": lambda: {"enum": list(range(1_000_000))},
    "many choices": lambda: {"enum": [f"choice {number}" for number in range(25_000)]},
    "deep": lambda: nested(5_000),
    "many properties": lambda: {
        "type": "object",
        "properties": {f"p{number}": {"type": "string"} for number in range(10_000)},
    },
    "as many properties as may be": lambda: {
        "type": "object",
        "properties": {f"p{number}": {"type": "string"} for number in range(999)},
    },
    "itself": lambda: {"$ref": "#"},
    "around in a circle": lambda: {
        "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}},
        "$ref": "#/$defs/a",
    },
    "doubling": lambda: {
        "$defs": {
            f"d{level}": {"type": "array", "prefixItems": [{"$ref": f"#/$defs/d{level + 1}"}] * 2}
            for level in range(40)
        },
        "$ref": "#/$defs/d0",
    },
    "combinations": lambda: {
        "allOf": [
            {"anyOf": [{"properties": {f"p{n}{m}": {"type": "string"}}} for m in range(4)]}
            for n in range(16)
        ]
    },
    "a huge expression": lambda: {"type": "string", "pattern": "((a{1000}){1000}){1000}"},
    "an ambiguous expression": lambda: {"type": "string", "pattern": "^(([a-z])+.)+[A-Z]([a-z])+$"},
    "long strings": lambda: {"type": "string", "minLength": 10**9},
    "long lists": lambda: {"type": "array", "items": {"type": "integer"}, "minItems": 10**9},
    "elsewhere": lambda: {"$ref": "http://localhost/schema.json"},
    "nothing": lambda: {"type": "string", "minLength": 2, "maxLength": 1},
    "not a schema": lambda: {"type": 7},
    "a list": list,
}
MOST_SECONDS = 10.0
"""Some take half a second here; those that go wrong would take minutes."""


@pytest.mark.parametrize("name", HOSTILE)
class TestHostileSchemas:
    def test_are_refused_or_held_in_bounded_time(self, name: str) -> None:
        schema = json.dumps(HOSTILE[name]()) if name != "deep" else deep_text()
        begin = time.monotonic()
        with suppress(InvalidRequestError, EngineError):
            found = COMPILED.of(NO_TOOLS, JsonAnswer(schema), reasons=False)
            assert found is not None
            mask = found.begin()
            for _ in range(20):
                allowed = mask.allowed()
                if allowed is None:
                    break
                mask.accept(first(allowed))
        assert time.monotonic() - begin < MOST_SECONDS

    def test_leave_a_tool_that_can_be_called(self, name: str) -> None:
        schema = json.dumps(HOSTILE[name]()) if name != "deep" else deep_text()
        begin = time.monotonic()
        use = ToolUse((Tool("odd", parameters=schema), TIME), Calling.REQUIRED)
        constraint = COMPILED.of(use, None, reasons=False)
        assert Answers(constraint, tokenizer()).takes(TIME_CALL)
        assert time.monotonic() - begin < MOST_SECONDS


def deep_text() -> str:
    """Too deep for `json.dumps` as well."""
    return '{"items": ' * 5_000 + "{}" + "}" * 5_000


def first(mask: bytes) -> TokenId:
    return TokenId(next(number for number in range(len(mask) * 8) if allows(mask, TokenId(number))))


def last(mask: bytes, size: int) -> TokenId:
    return TokenId(next(n for n in reversed(range(size)) if allows(mask, TokenId(n))))


def test_what_cannot_be_held_of_a_tool_is_left_out_and_told_once() -> None:
    telemetry = RecordedTelemetry()
    tokens = tokenizer()
    made = GuidedAnswers(tokens, len(tokens.pieces), telemetry)
    schema = {"type": "object", "properties": {"a": {"type": "integer", "not": {"const": 3}}}}
    use = ToolUse((Tool("odd", parameters=json.dumps(schema)), TIME), Calling.REQUIRED)
    opening = '<tool_call>\n{"name": "odd", "arguments": '
    for _ in range(2):
        found = Answers(made.of(use, None, reasons=False), tokens)
    assert found.takes(opening + '{"a": 3}}\n</tool_call>')
    assert not found.begins(opening + '{"a": "')
    assert telemetry.names("warning") == ["tool_schema_not_held"]


def test_a_form_that_cannot_be_held_is_refused_by_name() -> None:
    with pytest.raises(InvalidRequestError, match="not") as caught:
        COMPILED.of(NO_TOOLS, JsonAnswer('{"not": {"type": "string"}}'), reasons=False)
    assert caught.value.field == "response_format"
    with pytest.raises(InvalidRequestError) as caught:
        COMPILED.of(ToolUse(TOOLS), JsonAnswer('{"not": {}}'), reasons=False)
    assert caught.value.field == "response_format"


def test_the_same_form_is_compiled_once() -> None:
    one = COMPILED.of(ToolUse(TOOLS), None, reasons=False)
    described = Tool(WEATHER.name, "otherwise described", WEATHER.parameters)
    assert COMPILED.of(ToolUse((described, TIME)), None, reasons=False) is one
    assert COMPILED.of(ToolUse(TOOLS), None, reasons=True) is not one


def test_several_threads_may_ask_at_once() -> None:
    tokens = tokenizer()
    made = GuidedAnswers(tokens, len(tokens.pieces), RecordedTelemetry())
    found: list[bool] = []

    def ask(number: int) -> None:
        tool = Tool(f"tool_{number % 3}")
        constraint = made.of(ToolUse((tool,), Calling.REQUIRED), None, reasons=False)
        text = f'<tool_call>\n{{"name": "{tool.name}", "arguments": {{}}}}\n</tool_call>'
        found.append(Answers(constraint, tokens).takes(text))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 8


@pytest.mark.parametrize("name", ['a"b', "a\\b", "é ", "a\nb", "/a/"])
def test_any_name_of_a_tool_is_written_as_it_is(name: str) -> None:
    found = answers(ToolUse((Tool(name),), Calling.REQUIRED))
    assert found.begins('<tool_call>\n{"name": "' + name + '", "arguments": {')


@pytest.mark.parametrize("syntax", [AnswerSyntax(), AnswerSyntax(QWEN.calls), HARMONY])
def test_text_of_a_client_never_becomes_a_special_token(syntax: AnswerSyntax) -> None:
    tokens = tokenizer(syntax, *HARMONY_MARKS, "<|end|>")
    schema = json.dumps(
        {"properties": {"a": {"enum": ["<end>"]}}, "type": "object", "required": ["a"]}
    )
    use = ToolUse((Tool("<end>", parameters=schema),), Calling.REQUIRED, parallel=False)
    made = GuidedAnswers(tokens, len(tokens.pieces), RecordedTelemetry())
    constraint = made.of(use, None, reasons=False)
    assert constraint is not None
    mask = constraint.begin()
    told: list[TokenId] = []
    (end,) = tokens.stop_tokens
    while end not in told and len(told) < 200:
        allowed = mask.allowed()
        assert allowed is not None
        # The last of those allowed: the end, where it is; in Harmony the call, not more thoughts.
        told.append(last(allowed, len(tokens.pieces)))
        mask.accept(told[-1])
    assert tokens.decode(told[:-1]).count("<end>") == 2


def test_marks_at_the_end_of_text_are_no_mark_yet() -> None:
    found = answers(ToolUse(TOOLS))
    assert found.takes("a <tool_cal")
    assert found.takes("<" * 40)
    assert HERMES.trigger == "<tool_call>"

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fakes.answer_syntaxes import KIMI, SYNTAXES

from semantic.domain.answer_parser import AnswerParser, parser_of
from semantic.domain.answer_pieces import (
    CallArguments,
    CallBegun,
    CallEnded,
    Content,
    Reasoning,
    ReasoningEnded,
)
from semantic.domain.answer_syntax import AnswerSyntax, Arguments, CallSyntax, ReasoningSyntax
from semantic.domain.tagged_arguments import TaggedArguments
from semantic.domain.tools import Calling, Tool, ToolUse

WEATHER = Tool(
    "get_weather",
    "Tells the weather.",
    '{"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}, '
    '"units": {"type": "array"}}}',
)
GET = Tool("get", parameters='{"type": "object", "properties": {}}')
USE = ToolUse((GET, WEATHER))
HERMES = AnswerSyntax()
HARMONY = AnswerSyntax(reasoning=ReasoningSyntax(), harmony=True)
ALL = [*SYNTAXES.values(), HARMONY]


@dataclass
class Read:
    """An answer, as it was read."""

    content: str = ""
    reasoning: str = ""
    calls: list[tuple[str, str]] = field(default_factory=list)
    spans: list[tuple[str, int, int]] = field(default_factory=list)
    ended: int = 0
    over: bool = False


def pieces(parser: AnswerParser, parts: Sequence[str]) -> list[object]:
    found: list[object] = []
    for part in parts:
        found += parser.add(part)
    return [*found, *parser.finish()]


def read(
    syntax: AnswerSyntax, *parts: str, use: ToolUse = USE, reasons: bool = False, whole: bool = True
) -> Read:
    parser = parser_of(syntax, use, reasons=reasons)
    answer, raw = Read(), "".join(parts)
    position = 0
    for piece in pieces(parser, parts):
        match piece:
            case Content(text, end):
                assert raw[end - len(text) : end] == text, "content is raw text"
                assert piece.start >= position
                position = end
                answer.content += text
            case Reasoning(text):
                answer.reasoning += text
            case ReasoningEnded(start, end):
                answer.spans.append(("reasoning", start, end))
            case CallBegun(name, start):
                answer.calls.append((name, ""))
                answer.spans.append(("call", start, start))
            case CallArguments(text):
                name, so_far = answer.calls[-1]
                answer.calls[-1] = (name, so_far + text)
            case CallEnded(end):
                answer.ended += 1
                answer.spans[-1] = ("call", answer.spans[-1][1], end)
    assert answer.ended == len(answer.calls)
    answer.over = parser.over
    if whole:
        assert read(syntax, *raw, use=use, reasons=reasons, whole=False) == answer
    return answer


def written(syntax: AnswerSyntax, *calls: tuple[Tool, dict[str, object]]) -> str:
    """Calls as a model writes them that keeps to the syntax."""
    if syntax.harmony:
        return "".join(
            f" to=functions.{tool.name}<|channel|>commentary json<|message|>{json.dumps(given)}"
            "<|call|><|start|>assistant"
            for tool, given in calls
        )
    call = syntax.calls
    texts = []
    for number, (tool, values) in enumerate(calls):
        count = f":{number}" if call.numbered else ""
        told = call_arguments(call, tool, values)
        texts.append(f"{call.opening}{tool.name}{count}{call.naming}{told}{call.closing}")
    return call.before + call.between.join(texts) + call.after


def call_arguments(call: CallSyntax, tool: Tool, given: dict[str, object]) -> str:
    if call.arguments is Arguments.JSON:
        return json.dumps(given, ensure_ascii=False)
    tagged, tags = TaggedArguments(tool), call.tags
    return "".join(
        f"{tags.begin}{key}{tags.naming}{tagged.written(key, value)}{tags.end}"
        for key, value in given.items()
    )


Called = tuple[Tool, dict[str, object]]

PARIS: Called = (WEATHER, {"city": 'Paris "<x>" \\ é\n', "days": 3, "units": ["C", {"a": "}"}]})
ROME: Called = (WEATHER, {"city": "Rome"})
NOTHING: Called = (GET, {})


@pytest.mark.parametrize("syntax", ALL, ids=[*SYNTAXES, "GPT-OSS"])
class TestEveryFamily:
    @pytest.mark.parametrize("calls", [[PARIS], [PARIS, ROME], [NOTHING], [NOTHING, PARIS]])
    def test_calls_are_read(
        self, syntax: AnswerSyntax, calls: list[tuple[Tool, dict[str, object]]]
    ) -> None:
        answer = read(syntax, written(syntax, *calls))
        assert [(name, json.loads(told)) for name, told in answer.calls] == [
            (tool.name, given) for tool, given in calls
        ]
        assert answer.content == ""

    def test_text_may_come_before_calls(self, syntax: AnswerSyntax) -> None:
        if syntax.harmony:
            text = "<|channel|>commentary<|message|>Let me see.<|end|><|start|>assistant"
        else:
            text = "Let me see." + syntax.calls.lead
        answer = read(syntax, text + written(syntax, ROME))
        assert answer.content == "Let me see."
        assert [name for name, _ in answer.calls] == ["get_weather"]

    def test_wherever_it_is_cut_off_half_a_mark_is_no_text(self, syntax: AnswerSyntax) -> None:
        if syntax.harmony:
            text = "<|channel|>commentary<|message|>Let me see.<|end|><|start|>assistant"
        else:
            text = "Let me see." + syntax.calls.lead
        raw = text + written(syntax, ROME, NOTHING)
        for length in range(len(raw)):
            parser = parser_of(syntax, USE)
            found = [*parser.add(raw[:length]), *parser.finish(cut=True)]
            told = "".join(piece.text for piece in found if isinstance(piece, Content))
            assert "Let me see.".startswith(told.rstrip())
            assert not any(isinstance(piece, Reasoning) for piece in found)
            assert parser.untold is None or raw[parser.untold : length].strip()

    def test_a_second_call_ends_the_answer_where_one_is_allowed(self, syntax: AnswerSyntax) -> None:
        use = ToolUse((GET, WEATHER), parallel=False)
        one, two = written(syntax, ROME), written(syntax, ROME, PARIS)
        assert not read(syntax, one, use=use).over
        answer = read(syntax, two, use=use)
        assert answer.over
        assert len(answer.calls) == 1

    def test_without_tools_marks_are_text(self, syntax: AnswerSyntax) -> None:
        if syntax.harmony:
            return  # there they are no text in any case
        raw = "a" + written(syntax, ROME)
        assert read(syntax, raw, use=ToolUse()).content == raw
        use = ToolUse((WEATHER,), Calling.NONE)
        assert read(syntax, raw, use=use).content == raw

    def test_an_unknown_name_is_text(self, syntax: AnswerSyntax) -> None:
        raw = written(syntax, ROME)
        answer = read(syntax, raw, use=ToolUse((GET,)))
        assert answer.calls == []
        assert answer.content == ('{"city": "Rome"}' if syntax.harmony else raw)

    def test_a_call_cut_off_ends_as_it_is(self, syntax: AnswerSyntax) -> None:
        raw = written(syntax, PARIS)
        for end in range(len(raw)):
            answer = read(syntax, raw[:end], whole=False)
            assert len(answer.calls) <= 1
            assert len(answer.content) <= 1 + len(syntax.calls.trigger)

    @settings(max_examples=50)
    @given(data=st.data())
    def test_any_cutting_reads_the_same(self, syntax: AnswerSyntax, data: st.DataObject) -> None:
        calls = written(syntax, PARIS, ROME)
        marks = ["<think>", "</think>", "<|channel|>analysis<|message|>", "<|end|>", "\n", " ", "x"]
        parts = st.sampled_from([*marks, "<", calls, calls[:9], calls[9:20], calls[20:], "{}"])
        raw = "".join(data.draw(st.lists(parts, max_size=8)))
        reasons = data.draw(st.booleans())
        places = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=8)))
        cut = [raw[a:b] for a, b in zip([0, *places], [*places, len(raw)], strict=True)]
        once = read(syntax, raw, reasons=reasons, whole=False)
        assert read(syntax, *cut, reasons=reasons, whole=False) == once


def test_reasoning_stands_between_its_marks() -> None:
    answer = read(SYNTAXES["Qwen 3"], "<think>\nHm,\n\nso. \n</think>\n\nYes.")
    assert (answer.reasoning, answer.content) == ("Hm,\n\nso.", "Yes.")
    assert answer.spans == [("reasoning", 0, 28)]


def test_the_prompt_may_end_inside_reasoning() -> None:
    answer = read(SYNTAXES["Qwen 3"], "Hm.\n</think>\n\nYes.", reasons=True)
    assert (answer.reasoning, answer.content) == ("Hm.", "Yes.")


def test_reasoning_that_is_cut_off_is_all_there_is() -> None:
    answer = read(SYNTAXES["Qwen 3"], "<think>\nHm, </th")
    assert (answer.reasoning, answer.content) == ("Hm, </th", "")


def test_marks_of_reasoning_inside_text_are_text() -> None:
    answer = read(SYNTAXES["Qwen 3"], "Say <think> and </think>.")
    assert (answer.reasoning, answer.content) == ("", "Say <think> and </think>.")


def test_a_model_that_does_not_reason_has_no_marks_of_it() -> None:
    assert read(HERMES, "<think>a</think>").content == "<think>a</think>"


def test_calls_may_follow_reasoning() -> None:
    raw = "<think>\nHm.\n</think>\n\n" + written(HERMES, ROME)
    answer = read(SYNTAXES["Qwen 3"], raw)
    assert answer.reasoning == "Hm."
    assert answer.content == ""
    assert answer.spans == [("reasoning", 0, 22), ("call", 22, len(raw))]


@pytest.mark.parametrize(
    "raw",
    [
        '<tool_call>{"name":"get_weather","arguments":{"city": "Rome"}}</tool_call>',
        '<tool_call>\n\n{ "name" : "get_weather", "arguments": {"city": "Rome"}}\n</tool_call>\n',
        '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome"}}',
    ],
)
def test_careless_spacing_is_a_call_as_well(raw: str) -> None:
    assert read(HERMES, raw).calls == [("get_weather", '{"city": "Rome"}')]


@pytest.mark.parametrize(
    "raw",
    [
        "a <tool_call> b",
        '<tool_call>\n{"arguments": {}, "name": "get"}\n</tool_call>',
        '<tool_call>\n{"name": "get", "arguments": []}\n</tool_call>',
        '<tool_call>\n{"name": "get_it", "arguments": {}}\n</tool_call>',
        "<tool",
        "<tool_call><tool_calls>",
        "a\n",
    ],
)
def test_what_only_looks_like_a_call_is_text(raw: str) -> None:
    answer = read(HERMES, raw)
    assert answer.calls == []
    assert answer.content == raw


def test_text_after_calls_is_text() -> None:
    raw = written(HERMES, NOTHING)
    assert read(HERMES, raw + " Done.").content == " Done."
    assert read(HERMES, f"{raw}\n\nDone: {raw}").calls == [("get", "{}")] * 2
    assert read(HERMES, raw + "\n\n").content == ""


def test_a_call_with_broken_ends_stays_one() -> None:
    answer = read(HERMES, '<tool_call>\n{"name": "get", "arguments": {"a": 1}]]')
    assert answer.calls == [("get", '{"a": 1}')]
    assert answer.content == "]]"


def test_a_name_that_begins_another_is_told_apart() -> None:
    for syntax in SYNTAXES.values():
        assert [name for name, _ in read(syntax, written(syntax, NOTHING, ROME)).calls] == [
            "get",
            "get_weather",
        ]


def test_arguments_come_as_they_are_written() -> None:
    parser = parser_of(HERMES, USE)
    parser.add('<tool_call>\n{"name": "get", "arguments": ')
    assert parser.add('{"a') == (CallBegun("get", 0), CallArguments('{"a'))
    assert parser.add('": 1') == (CallArguments('": 1'),)


def test_a_number_may_be_missing_where_calls_are_numbered() -> None:
    raw = written(AnswerSyntax(KIMI), ROME).replace(":0", "", 1)
    assert read(AnswerSyntax(KIMI), raw).calls == [("get_weather", '{"city": "Rome"}')]


class TestTaggedArguments:
    @pytest.mark.parametrize(
        ("value", "schema", "told"),
        [
            ("1", '{"type": "string"}', '"1"'),
            ("1", '{"type": "integer"}', "1"),
            ("x", '{"type": "integer"}', '"x"'),
            ("null", '{"type": ["string", "null"]}', "null"),
            ('"a"', '{"anyOf": [{"type": "string"}, {"type": "null"}]}', '"a"'),
            ("a", '{"enum": ["a", "b"]}', '"a"'),
            ("[1,  2]", '{"type": "array"}', "[1, 2]"),
            ("true", '{"$ref": "#/$defs/x"}', "true"),
            ("true", "{}", "true"),
            ('a "b', "1", '"a \\"b"'),
        ],
    )
    def test_a_values_type_is_the_schemas(self, value: str, schema: str, told: str) -> None:
        tool = Tool("t", parameters='{"properties": {"a": ' + schema + "}}")
        assert TaggedArguments(tool).read("a", value) == told

    @pytest.mark.parametrize(
        ("schema", "raw", "told"),
        [
            ("{}", '"a </parameter> b"\n</parameter>\n', '"a </parameter> b"'),
            ("{}", '["\\"</parameter>", 1]</parameter>', '["\\"</parameter>", 1]'),
            ("{}", '5" long</parameter>\n', '"5\\" long"'),
            ('{"type": "string"}', '"a\n</parameter>\n', '"\\"a"'),
        ],
    )
    def test_a_value_ends_where_json_holds_no_mark(self, schema: str, raw: str, told: str) -> None:
        tool = Tool("t", parameters='{"properties": {"a": ' + schema + "}}")
        text = f"<tool_call>\n<function=t>\n<parameter=a>\n{raw}</function>\n</tool_call>"
        answer = read(SYNTAXES["Qwen 3.5"], text, use=ToolUse((tool,)))
        assert answer.calls == [("t", '{"a": ' + told + "}")]
        assert answer.content == ""

    @given(
        value=st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=5,
        ),
        schema=st.sampled_from(["{}", '{"type": "string"}', '{"type": ["string", "null"]}', "1"]),
    )
    def test_what_is_written_is_read_again(self, value: object, schema: str) -> None:
        tagged = TaggedArguments(Tool("t", parameters='{"properties": {"a": ' + schema + "}}"))
        if isinstance(value, str) or not tagged.is_text("a"):  # others break the schema
            assert json.loads(tagged.read("a", tagged.written("a", value))) == value


class TestHarmony:
    def test_channels_tell_reasoning_text_and_calls_apart(self) -> None:
        raw = (
            "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary "
            'to=functions.get_weather <|constrain|>json<|message|>{"city": "Rome"}'
        )
        answer = read(HARMONY, raw)
        assert answer.reasoning == "Hm."
        assert answer.calls == [("get_weather", '{"city": "Rome"}')]
        assert answer.content == ""
        assert answer.spans == [("reasoning", 0, 40), ("call", 40, len(raw))]

    def test_the_final_channel_is_the_text(self) -> None:
        raw = "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>b"
        answer = read(HARMONY, raw)
        assert (answer.reasoning, answer.content) == ("a", "b")

    def test_without_channels_all_is_text(self) -> None:
        assert read(HARMONY, "Hello < you").content == "Hello < you"

    def test_a_header_that_is_cut_off_is_no_text(self) -> None:
        assert read(HARMONY, "<|channel|>ana").content == ""

    def test_a_message_may_lack_its_end(self) -> None:
        raw = "<|channel|>analysis<|message|>a<|channel|>final<|message|>b"
        answer = read(HARMONY, raw)
        assert (answer.reasoning, answer.content) == ("a", "b")

"""JSON is written in one order, with one spacing, and means what it meant."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semantic.domain.json_order import ordered_arguments, ordered_schema

SCHEMA = json.dumps(
    {
        "properties": {
            "path": {"type": "string"},
            "edits": {
                "items": {"properties": {"old": {}, "new": {}}},
                "type": "array",
            },
            "also": {"type": "boolean"},
        }
    }
)

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(), JSON)


def backwards(value: object) -> object:
    """The same with the keys of every object the other way round."""
    if isinstance(value, dict):
        return {key: backwards(value[key]) for key in reversed(value)}
    return [backwards(one) for one in value] if isinstance(value, list) else value


class TestArguments:
    def test_follow_the_schema_and_then_the_alphabet(self) -> None:
        said = '{"zeta":1,"also":true,"alpha":2,"path":"a.py"}'
        expected = '{"path": "a.py", "also": true, "alpha": 2, "zeta": 1}'
        assert ordered_arguments(said, SCHEMA) == expected

    def test_follow_the_schema_in_objects_within_lists(self) -> None:
        said = '{"edits":[{"new":"b","old":"a"}]}'
        assert ordered_arguments(said, SCHEMA) == '{"edits": [{"old": "a", "new": "b"}]}'

    @pytest.mark.parametrize("schema", ["null", "no json", "[1]", '{"properties": 3}', "{}"])
    def test_are_sorted_where_a_schema_says_nothing(self, schema: str) -> None:
        assert ordered_arguments('{"b":1,"a":{"d":1,"c":2}}', schema) == (
            '{"a": {"c": 2, "d": 1}, "b": 1}'
        )

    @pytest.mark.parametrize("text", ["", "no json", "[1,2]", '{"a":NaN}', '{"a":1e999}', '"a"'])
    def test_that_are_no_object_stay_as_they_are(self, text: str) -> None:
        assert ordered_arguments(text, SCHEMA) == text

    def test_too_deep_for_us_stay_as_they_are(self) -> None:
        text = '{"a":' * 100_000
        assert ordered_arguments(text, SCHEMA) == text

    def test_with_half_a_character_stay_as_they_are(self) -> None:
        text = r'{"a":"\ud83d"}'
        assert ordered_arguments(text, SCHEMA) == text

    def test_a_whole_number_is_the_same_however_a_client_writes_it(self) -> None:
        assert (
            ordered_arguments('{"a":1.0,"b":1.5,"c":1e3}', "{}") == '{"a": 1, "b": 1.5, "c": 1000}'
        )

    def test_letters_are_written_as_they_are(self) -> None:
        assert ordered_arguments(r'{"a":"\u00fc\/"}', "{}") == '{"a": "ü/"}'

    @given(OBJECTS)
    def test_mean_what_they_meant_in_one_order_whatever_it_was(
        self, value: dict[str, object]
    ) -> None:
        once = ordered_arguments(json.dumps(value), SCHEMA)
        assert json.loads(once) == value
        assert ordered_arguments(json.dumps(backwards(value), indent=1), SCHEMA) == once
        assert ordered_arguments(once, SCHEMA) == once


class TestSchemas:
    def test_known_keywords_come_first_and_required_properties_before_others(self) -> None:
        said = {
            "$schema": "x",
            "required": ["why", "path"],
            "additionalProperties": False,
            "properties": {
                "limit": {"description": "how many", "type": "integer"},
                "path": {"type": "string"},
                "depth": {"type": "integer"},
                "why": {"type": "string"},
            },
            "type": "object",
        }
        found = json.loads(ordered_schema(json.dumps(said)))
        assert found == said
        assert list(found) == ["type", "properties", "required", "$schema", "additionalProperties"]
        assert list(found["properties"]) == ["why", "path", "depth", "limit"]
        assert list(found["properties"]["limit"]) == ["type", "description"]

    def test_a_property_may_be_named_like_a_keyword(self) -> None:
        said = '{"properties":{"type":{"type":"string"},"properties":{"default":{"b":1,"a":2}}}}'
        found = ordered_schema(said)
        assert found == (
            '{"properties": {"properties": {"default": {"a": 2, "b": 1}}, '
            '"type": {"type": "string"}}}'
        )

    def test_what_is_listed_keeps_its_order(self) -> None:
        said = {"enum": ["b", "a"], "anyOf": [{"type": "string"}, {"const": 1}]}
        assert json.loads(ordered_schema(json.dumps(said))) == said

    @given(OBJECTS)
    def test_mean_what_they_meant_in_one_order_whatever_it_was(
        self, value: dict[str, object]
    ) -> None:
        once = ordered_schema(json.dumps(value))
        assert json.loads(once) == value
        assert ordered_schema(json.dumps(backwards(value), indent=1)) == once
        assert ordered_schema(once) == once

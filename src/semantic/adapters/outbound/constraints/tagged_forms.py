"""A tool's schema taken apart, for arguments that stand between tags each by itself.

Owns what can be held of a schema there, and what cannot. Values that can only be text are held by
regular expressions, as they are no JSON.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from semantic.adapters.outbound.constraints.lark_rules import escaped
from semantic.adapters.outbound.constraints.schemas import Json, SchemaError
from semantic.domain.answer_syntax import ArgumentTags
from semantic.domain.tagged_arguments import TaggedArguments, referred

_MOST_FORMS: Final = 32
_MOST_DEPTH: Final = 8
_WHOLE: Final = "of_the_tool"
"""Where the tool's schema stands in that of a value, which may refer to it."""
_UNHELD: Final = frozenset(
    (
        *("not", "if", "patternProperties", "propertyNames", "minProperties", "maxProperties"),
        *("dependentRequired", "dependentSchemas", "dependencies", "unevaluatedProperties"),
        *("const", "enum", "oneOf"),
    )
)
"""At a schema's root: what asks for more than that arguments are there or not."""
_UNHELD_OF_TEXT: Final = frozenset(("format", "allOf", "anyOf", "oneOf", "not", "if", "$ref"))


@dataclass(frozen=True, slots=True)
class NamedArguments:
    """Arguments, each of all of its schemas. `others`: any more, of a schema; None: not said."""

    properties: Mapping[str, tuple[Json, ...]]
    required: frozenset[str]
    others: Json = None


def tagged_forms(schema: Mapping[str, Json]) -> list[NamedArguments]:
    """What arguments may be there, in one of these ways.

    Raises:
        SchemaError: if there are too many.
    """
    forms = []
    for one in _forms(dict(schema), schema, 0):
        missing: dict[str, tuple[Json, ...]] = {
            name: ({},) for name in sorted(one.required) if name not in one.properties
        }
        others = one.others
        if others is None:
            # Arguments that are named are all that there are, as where they are JSON.
            others = not one.properties and not missing
        forms.append(replace(one, properties={**one.properties, **missing}, others=others))
    return forms


def unheld(schema: Mapping[str, Json], texts: TaggedArguments, tags: ArgumentTags) -> str | None:
    """What of a schema is not held where its arguments stand between tags."""
    for one in _schemas(dict(schema), schema, 0):
        if known := sorted(_UNHELD.intersection(one)):
            return f"{known[0]} is not held between tags"
    for form in tagged_forms(schema):
        for name, schemas in form.properties.items():
            if not readable(name, tags):
                return "a property's name cannot be read between tags"
            if texts.is_text(name) and (reason := _unheld_text(schemas, tags)):
                return reason
    return None


def _unheld_text(schemas: Sequence[Json], tags: ArgumentTags) -> str | None:
    for schema in schemas:
        if not isinstance(schema, dict):
            continue
        if known := sorted(_UNHELD_OF_TEXT.intersection(schema)):
            return f"{known[0]} of text is not held between tags"
        if "pattern" in schema and _pattern(schema["pattern"]) is None:
            return "a pattern is not held between tags"
        if any(tags.end.strip() in text for text in _choices(schema) or ()):
            return "a choice cannot be written between tags"
    return None


def readable(name: str, tags: ArgumentTags) -> bool:
    """Whether a name between its tags is read as it was meant."""
    return name == name.strip() and tags.naming.split()[0] not in name


def conditions(schemas: Sequence[Json], *, lenient: bool) -> list[str]:
    """Expressions all of which text of these schemas matches. `lenient`: without patterns."""
    found = []
    for schema in schemas:
        if not isinstance(schema, dict):
            continue
        choices = _choices(schema)
        if choices is not None:
            found.append("|".join(map(escaped, choices)))
        least, most = schema.get("minLength"), schema.get("maxLength")
        if isinstance(least, int) or isinstance(most, int):
            fewest = least if isinstance(least, int) else 0
            found.append(f"(?s:.{{{fewest},{most if isinstance(most, int) else ''}}})")
        pattern = _pattern(schema.get("pattern"))
        if pattern is not None and not lenient:
            found.append(pattern)
    return found


def _choices(schema: Mapping[str, Json]) -> list[str] | None:
    """The texts that it may be; None: any."""
    if "const" in schema:
        choices: Json = [schema["const"]]
    else:
        choices = schema.get("enum")
    if not isinstance(choices, list):
        return None
    return [one for one in choices if isinstance(one, str)]


def _pattern(pattern: Json) -> str | None:
    """An expression for all of a text in which the pattern is found; None if there is none."""
    if not isinstance(pattern, str):
        return None
    told = re.sub(r"\\?/", r"\\x2f", pattern).replace("\n", r"\n")
    begins, ends = told.startswith("^"), bool(re.search(r"(?<!\\)(?:\\\\)*\$$", told))
    if (begins or ends) and "|" in told and not re.fullmatch(r"\^?\([^()]*\)\$?", told):
        return None  # an anchor may be that of one choice
    inner = told[1 if begins else 0 : len(told) - 1 if ends else len(told)]
    return ("" if begins else "(?s:.*)") + f"(?:{inner})" + ("" if ends else "(?s:.*)")


def rooted(schemas: Sequence[Json], root: Mapping[str, Json]) -> dict[str, Json]:
    """A value's schema by itself, with all that it may refer to."""
    told: Json = schemas[0] if len(schemas) == 1 else {"allOf": list(schemas)}
    if not isinstance(told, dict):
        return {} if told is not False else {"not": {}}
    moved = _moved(told)
    if not isinstance(moved, dict) or moved == told:
        return told
    return {**moved, "$defs": {_WHOLE: _moved(dict(root))}}


def _moved(value: Json) -> Json:
    """The same, with references into where the root stands now."""
    if isinstance(value, list):
        return [_moved(one) for one in value]
    if not isinstance(value, dict):
        return value
    found = {key: _moved(one) for key, one in value.items()}
    pointer = value.get("$ref")
    if isinstance(pointer, str) and pointer.startswith("#"):
        found["$ref"] = f"#/$defs/{_WHOLE}{pointer[1:]}"
    return found


def _forms(schema: Json, root: Mapping[str, Json], depth: int) -> list[NamedArguments]:
    if not isinstance(schema, dict) or depth > _MOST_DEPTH:
        return [NamedArguments({}, frozenset())]
    forms = [_own(schema)]
    for part in _parts(schema, root):
        ways = [way for one in part for way in _forms(one, root, depth + 1)]
        forms = [_both(form, way) for form in forms for way in ways]
        if len(forms) > _MOST_FORMS:
            raise SchemaError(f"arguments between tags have more than {_MOST_FORMS} forms")
    return forms


def _schemas(schema: Json, root: Mapping[str, Json], depth: int) -> Iterator[dict[str, Json]]:
    """All that a schema is put together of."""
    if isinstance(schema, dict) and depth <= _MOST_DEPTH:
        yield schema
        for part in _parts(schema, root):
            for one in part:
                yield from _schemas(one, root, depth + 1)


def _parts(schema: dict[str, Json], root: Mapping[str, Json]) -> Iterator[list[Json]]:
    """What a schema is put together of: of each part one must be fulfilled."""
    if "$ref" in schema:
        yield [referred(schema["$ref"], root)]  # type: ignore[list-item] # a part of JSON is JSON
    every = schema.get("allOf")
    for one in every if isinstance(every, list) else ():
        yield [one]
    for key in ("anyOf", "oneOf"):
        choices = schema.get(key)
        if isinstance(choices, list) and choices:
            yield choices


def _own(schema: dict[str, Json]) -> NamedArguments:
    properties = schema.get("properties")
    told = properties if isinstance(properties, dict) else {}
    required = schema.get("required")
    names = required if isinstance(required, list) else []
    return NamedArguments(
        {name: (one,) for name, one in told.items()},
        frozenset(name for name in names if isinstance(name, str)),
        schema.get("additionalProperties"),
    )


def _both(one: NamedArguments, other: NamedArguments) -> NamedArguments:
    names = dict.fromkeys((*one.properties, *other.properties))
    return NamedArguments(
        {name: one.properties.get(name, ()) + other.properties.get(name, ()) for name in names},
        one.required | other.required,
        other.others if one.others is None else one.others,
    )

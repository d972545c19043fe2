"""Tools that clients run and Anthropic has named: what a model has to be told of them.

Claude knows them; another model needs their schemas, as Anthropic's documentation has them.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class ClientTool:
    """`parameters` is a JSON schema's text."""

    description: str
    parameters: str


def _parameters(required: tuple[str, ...], **properties: dict[str, object]) -> str:
    return json.dumps({"type": "object", "properties": properties, "required": list(required)})


def _text(description: str) -> dict[str, object]:
    return {"type": "string", "description": description}


def _number(description: str) -> dict[str, object]:
    return {"type": "integer", "description": description}


def _one_of(*names: str) -> dict[str, object]:
    return {"type": "string", "enum": list(names)}


_RANGE: Final[dict[str, object]] = {
    "type": "array",
    "items": {"type": "integer"},
    "description": "First and last line to view, from 1; -1 is the end of the file.",
}
_FILE_TEXT: Final = _text("The text of the file to create.")

_BASH = ClientTool(
    "Run a command in a bash session that stays open between calls.",
    _parameters(
        (),
        command=_text("The command to run; required unless the session is restarted."),
        restart={"type": "boolean", "description": "Whether to restart the session."},
    ),
)
_EDIT = "View, create and edit text files."


def _editor(commands: tuple[str, ...], *, news: tuple[str, ...]) -> ClientTool:
    """`news` are the names of new text: older editors had one for replacing and inserting."""
    return ClientTool(
        _EDIT,
        _parameters(
            ("command", "path"),
            command=_one_of(*commands),
            path=_text("The path of the file or folder."),
            file_text=_FILE_TEXT,
            old_str=_text("The text to replace, which must be there exactly once."),
            **{text: _text("The text to put in its place, or to insert.") for text in news},
            insert_line=_number("The line after which to insert; 0 is the beginning."),
            view_range=_RANGE,
        ),
    )


_COMMANDS = ("view", "create", "str_replace", "insert")
_FILE_EDITOR = _editor(_COMMANDS, news=("new_str", "insert_text"))
_UNDOING_EDITOR = _editor((*_COMMANDS, "undo_edit"), news=("new_str",))
_MEMORY = ClientTool(
    "Keep notes in files below /memories that outlast the conversation.",
    _parameters(
        ("command",),
        command=_one_of("view", "create", "str_replace", "insert", "delete", "rename"),
        path=_text("The path of the file or folder, below /memories."),
        file_text=_FILE_TEXT,
        old_str=_text("The text to replace, which must be there exactly once."),
        new_str=_text("The text to put in its place."),
        insert_line=_number("The line after which to insert; 0 is the beginning."),
        insert_text=_text("The text to insert."),
        old_path=_text("The path to rename."),
        new_path=_text("Its new path."),
        view_range=_RANGE,
    ),
)

CLIENT_TOOLS: Final[Mapping[str, ClientTool]] = {
    "bash_20241022": _BASH,
    "bash_20250124": _BASH,
    "text_editor_20241022": _UNDOING_EDITOR,
    "text_editor_20250124": _UNDOING_EDITOR,
    "text_editor_20250429": _FILE_EDITOR,
    "text_editor_20250728": _FILE_EDITOR,
    "memory_20250818": _MEMORY,
}

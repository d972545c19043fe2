"""Records what coding agents send, into tests/recorded: python -m tests.clients.record PROGRAMS.

What is kept has the structure of what was sent. Names of people and machines, ids and keys are
replaced, the same by the same; long texts are cut in their middle, equal ones equally.
"""

import json
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from tests.clients.coding_agents import ClaudeCode, Codex, CodingAgent, OpenCode, Place, Turn
from tests.clients.dialects import Call
from tests.clients.recorder import MODEL, Exchange, Recorder

FOLDER = Path(__file__).parents[1] / "recorded"
HOME = "/home/user"
WORK = "/home/user/project"
HEAD, TAIL = 280, 120
"""Letters of a long text that are kept of its beginning and of its end."""

_ID = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"  # UUIDs
    r"|\b[0-9a-f]{64}\b"
    r"|(?<=ses_)[0-9A-Za-z]{26}"
)
_MACHINE = (
    (re.compile(r"OS Version: [^\n]+"), "OS Version: Linux 6.8.0"),
    (re.compile(r"\(Debian [^)]*\)"), "(Linux; x86_64)"),
    (re.compile(r'("turn_started_at_unix_ms\\*":)\d+'), r"\g<1>1795467600000"),
    (re.compile(r"127\.0\.0\.1:\d+"), "127.0.0.1:8000"),
)
_LEFT_OUT_HEADERS = frozenset({"authorization", "x-api-key", "content-length"})


class Anonymous:
    """Replaces what is somebody's; the same text gets the same name throughout."""

    def __init__(self, place: Place) -> None:
        self._paths = ((str(place.work), WORK), (str(place.home), HOME))
        self._ids: dict[str, str] = {}

    def text(self, text: str) -> str:
        """One text, without what is somebody's, and not too long."""
        for path, name in self._paths:
            text = text.replace(path, name)
        for pattern, name in _MACHINE:
            text = pattern.sub(name, text)
        text = _ID.sub(lambda found: self._named(found[0]), text)
        if len(text) <= HEAD + TAIL:
            return text
        return f"{text[:HEAD]} [{len(text) - HEAD - TAIL} letters] {text[-TAIL:]}"

    def value(self, value: object) -> object:
        """All texts in a JSON value, its keys left as they are."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return [self.value(item) for item in value]
        if isinstance(value, dict):
            return {key: self.value(item) for key, item in value.items()}
        return value

    def exchange(self, exchange: Exchange) -> dict[str, object]:
        """A request as it is kept; whose key it shows is not."""
        return {
            "method": exchange.method,
            "path": exchange.path,
            "headers": [
                [name, "Bearer none" if name.lower() == "authorization" else self.text(value)]
                for name, value in exchange.headers
                if name.lower() not in _LEFT_OUT_HEADERS or name.lower() == "authorization"
            ],
            "body": self.value(exchange.body),
        }

    def _named(self, found: str) -> str:
        digits = re.sub(r"[0-9A-Za-z]", "0", found)
        number = str(len(self._ids) + 1)
        return self._ids.setdefault(found, digits[: -len(number)] + number)


def record(
    name: str,
    programs: Path,
    calls: Callable[[Place], Iterable[Call]],
    session: Callable[[Place, str], None],
) -> None:
    """Play one session and keep what was sent as tests/recorded/NAME/N.json."""
    with tempfile.TemporaryDirectory(dir=Path.home()) as scratch:
        place = Place(programs, Path(scratch) / "home", Path(scratch) / "project")
        place.home.mkdir()
        place.work.mkdir()
        (place.work / "notes.txt").write_text("The meeting is on Friday.\n")
        with Recorder(tuple(calls(place))) as recorder:
            session(place, recorder.url)
            _keep(FOLDER / name, recorder.exchanges, Anonymous(place))


def _keep(folder: Path, exchanges: Iterable[Exchange], anonymous: Anonymous) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for number, exchange in enumerate(exchanges, 1):
        kept = json.dumps(anonymous.exchange(exchange), indent=1, ensure_ascii=False)
        (folder / f"{number:02d}.json").write_text(kept + "\n")


def _two_turns(client: CodingAgent) -> None:
    _one_turn(client)
    _checked(client.go_on("And what day is the meeting?"))


def _one_turn(client: CodingAgent) -> None:
    _checked(client.begin("Read notes.txt, then count its words."))


def _checked(turn: Turn) -> None:
    if turn.code:
        raise RuntimeError(turn.complaints)


def _reading(place: Place) -> Iterable[Call]:
    notes = str(place.work / "notes.txt")
    return (
        Call("Read", {"file_path": notes}),
        Call("Bash", {"command": "wc -w notes.txt", "description": "Count words"}),
        Call("read", {"filePath": notes}),
        Call("bash", {"command": "wc -w notes.txt", "description": "Count words"}),
        Call("exec_command", {"cmd": "cat notes.txt"}),
        Call("exec_command", {"cmd": "wc -w notes.txt"}),
    )


def _delegating(_: Place) -> Iterable[Call]:
    task = {
        "description": "Count words",
        "prompt": "Count the words of notes.txt.",
        "subagent_type": "general-purpose",
        "run_in_background": False,
    }
    return (Call("Agent", task),)


_WITH_TOKENS = (("CLAUDE_CODE_ENABLE_TOKEN_USAGE_ATTACHMENT", "1"),)


def main(programs: Path) -> None:
    """Record all of them anew."""
    record("claude-code", programs, _reading, lambda p, u: _two_turns(ClaudeCode(p, u, MODEL)))
    record(
        "claude-code-subagent",
        programs,
        _delegating,
        lambda p, u: _one_turn(ClaudeCode(p, u, MODEL)),
    )
    record(
        "claude-code-tokens",
        programs,
        _reading,
        lambda p, u: _two_turns(ClaudeCode(p, u, MODEL, _WITH_TOKENS)),
    )
    record("codex", programs, _reading, lambda p, u: _two_turns(Codex(p, u, MODEL)))
    record("opencode", programs, _reading, lambda p, u: _two_turns(OpenCode(p, u, MODEL)))


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())

"""`semantic chat` at a terminal and in a pipe, with a server that plays a script."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.fakes.answer_scripts import thoughtful
from tests.fakes.fixed_clock import FixedClock
from tests.fakes.guarded_app import GuardedApp, key
from tests.fakes.memory_api_keys import MemoryApiKeys
from tests.fakes.recorded_telemetry import RecordedTelemetry
from tests.fakes.scripted_inference import MODEL, ScriptedInference, answer
from tests.unit.adapters.inbound.conftest import served

from semantic.adapters.inbound.app import create_app
from semantic.adapters.inbound.limits import Limits
from semantic.domain.chat import Conversation
from semantic.domain.errors import PoolExhaustedError
from semantic.entrypoints import server_note
from semantic.entrypoints.server_note import ServerNote

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def scripted() -> ScriptedInference:
    return ScriptedInference()


@pytest.fixture(scope="module")
def module_url(scripted: ScriptedInference) -> Iterator[str]:
    limits = Limits(max_body_bytes=20_000, ping_interval_s=1, shutdown_timeout_s=1)
    app = create_app(scripted, RecordedTelemetry(), FixedClock(), limits)
    with served(app) as base:
        yield base


@pytest.fixture
def url(module_url: str, scripted: ScriptedInference) -> str:
    scripted.script, scripted.refusal = answer("Hel", "lo", cached=4), None
    scripted.requests.clear()
    return module_url


def typed(monkeypatch: pytest.MonkeyPatch, *lines: str | type[BaseException]) -> None:
    """Sit at a terminal and type these lines; an exception is a key."""
    left = list(lines)

    def read(_prompt: str) -> str:
        line = left.pop(0) if left else EOFError
        if isinstance(line, str):
            return line
        raise line

    monkeypatch.setattr("builtins.input", read)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)


def piped(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))


def said(scripted: ScriptedInference) -> list[list[str]]:
    prompts = [one.prompt for one in scripted.requests]
    return [
        [message.content for message in prompt.messages]
        for prompt in prompts
        if isinstance(prompt, Conversation)
    ]


def test_a_pipe_gets_answers_alone_and_the_terminal_what_they_took(
    run: Run, url: str, scripted: ScriptedInference, monkeypatch: pytest.MonkeyPatch
) -> None:
    piped(monkeypatch, "one\n\ntwo\n")
    code, out, err = run("chat", "--agent", "zoë", "--url", url, "--system", "s")
    assert (code, out) == (0, "Hello\nHello\n")
    assert err.count("[reused 4 of 10 tokens; first token after ") == 2
    assert said(scripted) == [["s", "one"], ["s", "one", "Hello", "two"]]
    assert scripted.requests[0].agent is not None
    assert scripted.requests[0].agent.name == "zoë"
    assert scripted.requests[0].model == MODEL.model_id


@pytest.mark.parametrize("leaving", ["/exit", "/quit", EOFError])
def test_a_terminal_is_left_by_word_or_key(
    run: Run,
    url: str,
    scripted: ScriptedInference,
    monkeypatch: pytest.MonkeyPatch,
    leaving: str | type[BaseException],
) -> None:
    typed(monkeypatch, "hi", KeyboardInterrupt, "  ", leaving, "never")
    code, out, err = run("chat", "--url", url)
    assert (code, out.strip()) == (0, "Hello")
    assert "remembered as nobody" in err
    assert "Ctrl-D or /exit leaves." in err
    assert said(scripted) == [["hi"]]


def test_a_refusal_does_not_end_the_chat_at_a_terminal(
    run: Run, url: str, scripted: ScriptedInference, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted.refusal = PoolExhaustedError("try again later")
    typed(monkeypatch, "hi", "/exit")
    code, _, err = run("chat", "--url", url)
    assert code == 0
    assert "error: try again later" in err


def test_a_refusal_ends_the_chat_in_a_pipe(
    run: Run, url: str, scripted: ScriptedInference, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted.refusal = PoolExhaustedError("try again later")
    piped(monkeypatch, "one\ntwo\n")
    # No answer is no line, not an empty one.
    assert run("chat", "--url", url) == (1, "", "error: try again later\n")


def test_an_agent_that_cannot_be_one_is_bad_usage(run: Run, url: str) -> None:
    code, out, err = run("chat", "--url", url, "--agent", "a\nb")
    assert (code, out) == (2, "")
    assert err.startswith("error: an agent's name ")


def test_a_terminal_is_not_reprogrammed_by_an_answer(
    run: Run, url: str, scripted: ScriptedInference, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted.script = answer("a\x1b]0;pwned\x07\nb\x9b")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    typed(monkeypatch, "hi", "/exit")
    out = run("chat", "--url", url)[1]
    assert "a]0;pwned\nb\n" in out


def test_a_person_is_shown_reasoning_in_lines_of_its_own(
    run: Run, url: str, scripted: ScriptedInference, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted.script = thoughtful("Hello", reasoning=["Hm\x07", "m."])
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    typed(monkeypatch, "hi", "/exit")
    out = run("chat", "--url", url)[1]
    assert out.startswith("\x1b[2mHm\x1b[0m\x1b[2mm.\x1b[0m\nHello\n")


def test_a_pipe_gets_no_reasoning(
    run: Run, url: str, scripted: ScriptedInference, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted.script = thoughtful("Hello", reasoning=["Hm"])
    piped(monkeypatch, "hi\n")
    assert run("chat", "--url", url)[1] == "Hello\n"


def test_options_reach_the_server(
    run: Run, url: str, scripted: ScriptedInference, monkeypatch: pytest.MonkeyPatch
) -> None:
    piped(monkeypatch, "one\n")
    options = ["--temperature", "0", "--max-tokens", "7", "--model", "other"]
    assert run("chat", "--url", url, *options)[0] == 0
    request = scripted.requests[0]
    assert (request.model, request.sampling.temperature) == ("other", 0)
    assert request.sampling.max_tokens == 7


def test_where_no_server_answers_the_way_out_is_told(run: Run) -> None:
    code, out, err = run("chat", "--url", "http://127.0.0.1:1")
    assert (code, out) == (1, "")
    assert "start one with: semantic serve" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("command", [["chat"], ["models", "list"]])
def test_what_is_no_address_is_bad_usage(run: Run, command: list[str]) -> None:
    code, out, err = run(*command, "--url", "foo")
    assert (code, out) == (2, "")
    assert err == "error: foo is not the address of a server: it begins with http://\n"


@pytest.mark.parametrize("named", ["--url", "--store"])
def test_models_that_are_served_are_listed(run: Run, url: str, tmp_path: Path, named: str) -> None:
    server_note.write(tmp_path, ServerNote(url, "token"))
    where = {"--url": url, "--store": str(tmp_path)}[named]
    out = run("models", "list", named, where, "--json")[1]
    assert f'"model": "{MODEL.model_id}"' in out
    assert '"state": "served"' in out


def test_a_server_that_wants_a_key_is_shown_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(GuardedApp(MemoryApiKeys(key("alpha"))).app) as base:
        found = []
        for arguments in (["--key", "alpha"], [], ["--key", "beta"]):
            piped(monkeypatch, "one\n")
            found.append(run("chat", "--url", base, *arguments))
        monkeypatch.setenv("SEMANTIC_API_KEY", "alpha")
        piped(monkeypatch, "one\n")
        found.append(run("chat", "--url", base))
        listed = run("models", "list", "--url", base, "--json")
    assert [code for code, _, _ in found] == [0, 1, 1, 0]
    assert [out for _, out, _ in found] == ["Hello\n", "", "", "Hello\n"]
    assert "needs an API key" in found[1][2]
    assert "alpha" not in found[3][2]
    assert '"state": "served"' in listed[1]

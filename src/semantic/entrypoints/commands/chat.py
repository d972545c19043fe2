"""`semantic chat`: talk to an agent in the terminal, and see what it remembered."""

import sys
import unicodedata
from typing import TYPE_CHECKING, Annotated

import typer

from semantic.entrypoints.commands import options, output

if TYPE_CHECKING:
    from semantic.entrypoints.chat_client import Answer, ChatClient

_PROMPT = "> "
_LEAVE = frozenset({"/exit", "/quit"})
_HARMLESS = "\n\t"
"""Control characters that a terminal may be shown; others could reprogram it."""


def chat(  # noqa: PLR0913 - a command has as many options as it needs
    *,
    agent: Annotated[
        str | None, typer.Option(help="Who remembers. Without it the chat is anonymous.")
    ] = None,
    url: options.Url = None,
    key: options.Key = None,
    model: Annotated[
        str | None, typer.Option(help="One of the server's models; as default, its first.")
    ] = None,
    system: Annotated[str | None, typer.Option(help="What the model is told beforehand.")] = None,
    temperature: Annotated[
        float | None, typer.Option(help="0 takes the likeliest word every time.")
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(help="The longest answer.")] = None,
    store: options.Store = None,
    config: options.Config = None,
) -> None:
    """Chat with a running server (start one with `semantic serve`).

    Ctrl-C stops an answer; Ctrl-D or /exit leaves. Where stdin is no terminal, each line of it
    is one question, answers go to stdout, and the first failure ends the command.
    """
    settings = options.settings_from({"store": {"dir": store}}, config)
    from semantic.entrypoints import running_server  # noqa: PLC0415 - start quickly
    from semantic.entrypoints.chat_client import ChatClient  # noqa: PLC0415 - see above

    root = running_server.find(url, settings)
    served = running_server.served_models(root, key=key)
    chosen = model or (served[0] if served else "")
    if sys.stdin.isatty():
        who = "nobody (name an agent with --agent)" if agent is None else f"agent {agent!r}"
        output.note(f"{chosen} at {root}, remembered as {who}. Ctrl-D or /exit leaves.")
    # The first token of a long prompt may take minutes; the server sends signs of life meanwhile.
    with running_server.client(root, timeout_s=None, key=key) as http:
        asked = {"model": chosen, "temperature": temperature, "max_tokens": max_tokens}
        said = {key: value for key, value in asked.items() if value is not None}
        _converse(ChatClient(http, said, agent=agent, system=system))


def _converse(client: "ChatClient") -> None:
    from semantic.domain.errors import SemanticError  # noqa: PLC0415 - start quickly

    interactive = sys.stdin.isatty()
    while (question := _question(interactive=interactive)) is not None:
        if question.strip() in _LEAVE:
            return
        if not question.strip():
            continue
        try:
            answer = _asked(client, question)
        except SemanticError as error:
            if not interactive:
                raise
            output.complain(error)
            continue
        output.note(_told(answer))
        if answer.interrupted and not interactive:
            raise typer.Abort


def _asked(client: "ChatClient", question: str) -> "Answer":
    """Ask, and show the answer as it comes, in lines of its own. No answer is no line.

    A person is shown the reasoning before it, too, in lines of its own that are dimmed.
    """
    shown = thinking = False

    def think(piece: str) -> None:
        nonlocal shown, thinking
        if sys.stdout.isatty():
            shown = thinking = True
            _show(piece, dim=True)

    def show(piece: str) -> None:
        nonlocal shown, thinking
        if thinking:
            thinking = False
            typer.echo()
        shown = True
        _show(piece)

    try:
        answer = client.ask(question, show, think)
    except BaseException:
        if shown:
            typer.echo()
        raise
    typer.echo()
    return answer


def _question(*, interactive: bool) -> str | None:
    """The next question; None if there is no more to come."""
    if not interactive:
        line = sys.stdin.readline()
        return line.removesuffix("\n") if line else None
    import readline  # noqa: F401, PLC0415 - it makes input() editable

    while True:
        try:
            return input(_PROMPT)
        except EOFError:
            typer.echo()
            return None
        except KeyboardInterrupt:
            typer.echo()
            output.note("Ctrl-D or /exit leaves.")


def _show(piece: str, *, dim: bool = False) -> None:
    if sys.stdout.isatty():
        piece = "".join(c for c in piece if c in _HARMLESS or unicodedata.category(c) != "Cc")
    if dim:
        piece = typer.style(piece, dim=True)
    sys.stdout.write(piece)
    sys.stdout.flush()


def _told(answer: "Answer") -> str:
    parts = ["stopped"] if answer.interrupted else []
    if answer.prompt_tokens is not None:
        parts.append(f"reused {answer.cached_tokens or 0} of {answer.prompt_tokens} tokens")
    if answer.first_token_s is not None:
        parts.append(f"first token after {answer.first_token_s:.2f} s")
    if answer.completion_tokens is not None:
        parts.append(f"{answer.completion_tokens} tokens in {answer.total_s:.2f} s")
    return f"[{'; '.join(parts)}]"

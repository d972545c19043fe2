"""`semantic keys`: who may talk to a server.

Works beside a running server, which sees a change within a second, and without one.
"""

import secrets
import time
from typing import TYPE_CHECKING, Annotated

import typer

from semantic.entrypoints.commands import options, output

if TYPE_CHECKING:
    from pathlib import Path

    from semantic.domain.api_key import ApiKey
    from semantic.ports.api_keys import ApiKeys

app = typer.Typer(
    help="API keys. With the first one, a server lets in nobody without.", no_args_is_help=True
)

Name = Annotated[str, typer.Argument(help="What the key is called, in lists and in the log.")]
_UNLIMITED = "-"
_DEFAULT = "default"


@app.command()
def create(  # noqa: PLR0913 - what can be said of a key, and where it is kept
    name: Name,
    *,
    tenant: options.Tenant = None,
    requests_per_minute: Annotated[
        int | None,
        typer.Option(min=0, help="0: no limit; as default, the setting auth.requests_per_minute."),
    ] = None,
    concurrent: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Requests at work at once. 0: no limit; as default, the setting auth.concurrent.",
        ),
    ] = None,
    store: options.Store = None,
    config: options.Config = None,
    as_json: options.AsJson = False,
) -> None:
    """Create a key, and print it. It is told this once: what is kept is its hash.

    A tenant owns its keys, and what is remembered with any of them. No tenant uses, sees or times
    what is another's. What is remembered for the tenant 'public' is the beginning of everybody's
    prompts: whoever has such a key publishes what they send.
    """
    from semantic.domain.api_key import (  # noqa: PLC0415 - start quickly
        SECRET_BYTES,
        ApiKey,
        KeyLimits,
        digest_of,
        key_name,
        spelled,
    )
    from semantic.domain.ids import PUBLIC  # noqa: PLC0415 - see above

    text = spelled(secrets.token_bytes(SECRET_BYTES))
    key = ApiKey(
        name=key_name(name),
        digest=digest_of(text),
        created_at=time.time(),
        tenant=options.tenant_of(tenant),
        limits=KeyLimits(requests_per_minute, concurrent),
    )
    keys = _keys(_store(store, config))
    first = not keys.all()
    keys.add(key)
    if as_json:
        output.print_json({**_as_json(key), "key": text})
    else:
        typer.echo(text)
    output.note("Keep it: it cannot be shown again.")
    if first:
        output.note("From now on a server of this store lets in nobody without a key.")
    if key.tenant == PUBLIC:
        output.note("What is asked with it is published: every tenant's prompts may reuse it.")


@app.command("list")
def list_keys(
    *,
    store: options.Store = None,
    config: options.Config = None,
    as_json: options.AsJson = False,
) -> None:
    """List keys: whose they are, and what may be asked with them. Their text is not kept."""
    root = _store(store, config)
    found = _keys(root).all()
    if as_json:
        output.print_json([_as_json(key) for key in found])
    elif not found:
        output.note(f"There is no key in {root}: a server there needs none.")
    else:
        headings = ("KEY", "TENANT", "A MINUTE", "AT ONCE", "CREATED")
        output.print_table(headings, [_row(key) for key in found])


@app.command()
def revoke(
    name: Name,
    *,
    store: options.Store = None,
    config: options.Config = None,
    as_json: options.AsJson = False,
) -> None:
    """Revoke a key. Within a second nothing begins with it any more; what runs, ends as it would.

    What was remembered with it stays its tenant's. Revoking the last key opens no running server.
    """
    from semantic.domain.api_key import key_name  # noqa: PLC0415 - start quickly

    keys = _keys(_store(store, config))
    gone = keys.remove(key_name(name))
    if as_json:
        output.print_json(_as_json(gone))
    else:
        typer.echo(f"Revoked: {gone.name}.")
    if not keys.all():
        output.note("No key is left: a server that is started from now on needs none.")


def _store(store: str | None, config: "Path | None") -> "Path":
    return options.settings_from({"store": {"dir": store}}, config).store.path


def _keys(root: "Path") -> "ApiKeys":
    from semantic.adapters.outbound.storage.key_file import (  # noqa: PLC0415 - start quickly
        KeyFile,
    )

    return KeyFile(root)


def _as_json(key: "ApiKey") -> dict[str, object]:
    return {
        "name": key.name,
        "tenant": key.tenant,
        "requests_per_minute": key.limits.requests_per_minute,
        "concurrent": key.limits.concurrent,
        "created_at": output.utc_time(key.created_at),
    }


def _row(key: "ApiKey") -> tuple[str, ...]:
    return (
        key.name,
        key.tenant,
        _told(key.limits.requests_per_minute),
        _told(key.limits.concurrent),
        output.local_time(key.created_at),
    )


def _told(limit: int | None) -> str:
    if limit is None:
        return _DEFAULT
    return str(limit) if limit else _UNLIMITED

"""`semantic agents`: whose memory there is, and having it forgotten.

Looking needs no server and disturbs none. Deleting goes through the server that has the store.
"""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from semantic.entrypoints.commands import options, output

if TYPE_CHECKING:
    from semantic.domain.ids import TenantId
    from semantic.ports.administration import AgentFootprint, AgentSummary

app = typer.Typer(help="What is remembered of each agent.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The agent, as in the header X-Agent-ID.")]
_NAMESPACE_DIGITS = 12
_TAKES = ("BLOCKS", "ON DISK", "ALONE")


@app.command("list")
def list_agents(
    *,
    tenant: options.Tenant = None,
    store: options.Store = None,
    config: options.Config = None,
    as_json: options.AsJson = False,
) -> None:
    """List agents: one line for each model that an agent talked to.

    DURABLE tells how many tokens of the newest branch survive if the server is killed now.
    """
    from semantic.application.agent_inspection import agents  # noqa: PLC0415 - start quickly
    from semantic.entrypoints.offline import look_at  # noqa: PLC0415 - see above

    root = _store(store, config)
    seen = look_at(root)
    found = agents(seen, options.tenant_of(tenant))
    if as_json:
        output.print_json([_summary(agent) for agent in found])
    elif not found:
        output.note(f"Nothing is remembered in {root}.")
    else:
        headings = ("AGENT", "TOKENS", "BRANCHES", "DURABLE", "LAST USED", "MODEL")
        output.print_table(headings, [_row(agent) for agent in found])


@app.command("show")
def show_agent(
    name: Name,
    *,
    tenant: options.Tenant = None,
    store: options.Store = None,
    config: options.Config = None,
    as_json: options.AsJson = False,
) -> None:
    """Show what is remembered of one agent, and what it takes on disk.

    ALONE is what deleting the agent would free: blocks that no other agent needs. DURABLE tells how
    many tokens of the newest branch survive if the server is killed now.
    """
    from semantic.application.agent_inspection import footprints  # noqa: PLC0415 - start quickly
    from semantic.entrypoints.offline import look_at  # noqa: PLC0415 - see above

    seen = look_at(_store(store, config))
    found = footprints(name, seen, options.tenant_of(tenant))
    if as_json:
        output.print_json([_footprint(memory) for memory in found])
        return
    headings = ("TOKENS", "BRANCHES", "DURABLE", *_TAKES, "LAST USED", "MODEL")
    typer.echo(found[0].summary.name)
    output.print_table(headings, [_long_row(memory) for memory in found])


@app.command("delete")
def delete(
    name: Name,
    *,
    tenant: options.Tenant = None,
    store: options.Store = None,
    config: options.Config = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Forget an agent, and every block that no other agent needs. This cannot be undone.

    At a terminal it asks first. If a server has the store, the server does it.
    """
    root = _store(store, config)
    if not yes and sys.stdin.isatty():
        typer.confirm(f"Forget {name!r} for good?", abort=True, err=True)
    deleted = _deleted(root, name, options.tenant_of(tenant))
    if as_json:
        output.print_json(deleted)
    else:
        typer.echo(f"Forgotten: {deleted['name']} ({deleted['blocks']} blocks removed).")


def _store(store: str | None, config: Path | None) -> Path:
    return options.settings_from({"store": {"dir": store}}, config).store.path


def _deleted(root: Path, name: str, tenant: "TenantId") -> dict[str, object]:
    from semantic.application.agent_deletion import delete_agent  # noqa: PLC0415 - start quickly
    from semantic.application.agent_inspection import memories  # noqa: PLC0415 - see above
    from semantic.domain.errors import StoreLockedError  # noqa: PLC0415 - see above
    from semantic.entrypoints import offline, running_server  # noqa: PLC0415 - see above

    # First of all: a name that is not there must not make a store.
    memories(name, offline.look_at(root).records, tenant)
    try:
        with offline.own(root) as owned:
            return asdict(delete_agent(name, owned, tenant))
    except StoreLockedError:
        return running_server.delete_agent(root, name, tenant)


def _summary(agent: "AgentSummary") -> dict[str, object]:
    return {**asdict(agent), "last_used": output.utc_time(agent.last_used)}


def _footprint(memory: "AgentFootprint") -> dict[str, object]:
    return {
        **_summary(memory.summary),
        "blocks": memory.blocks,
        "bytes": memory.nbytes,
        "bytes_alone": memory.nbytes_alone,
    }


def _row(agent: "AgentSummary") -> tuple[str, ...]:
    return (
        agent.name,
        str(agent.tokens),
        str(len(agent.branches)),
        str(agent.durable_tokens),
        output.local_time(agent.last_used),
        agent.namespace[:_NAMESPACE_DIGITS],
    )


def _long_row(memory: "AgentFootprint") -> tuple[str, ...]:
    _, tokens, branches, durable, used, model = _row(memory.summary)
    takes = (str(memory.blocks), output.size(memory.nbytes), output.size(memory.nbytes_alone))
    return (tokens, branches, durable, *takes, used, model)

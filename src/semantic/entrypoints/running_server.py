"""Talking to a server that is running: where it is, and what it answers."""

from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Any

import httpx

from semantic.adapters.config.settings import Settings, SettingsError
from semantic.domain.errors import (
    AgentBusyError,
    AgentNotFoundError,
    InvalidRequestError,
    SemanticError,
)
from semantic.domain.ids import DEFAULT_TENANT, TenantId
from semantic.entrypoints import server_note

_PATIENCE_S = 60.0
"""How long an administrative request may take."""
_GLANCE_S = 2.0
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - nothing is bound
"""Addresses that a server listens on and nobody can call, and what to call instead."""


class ServerError(SemanticError):
    """A server did not answer, or not as it should."""


def root_url(host: str, port: int) -> str:
    """The address at which a server on `host` is reached."""
    host = _LOOPBACK.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def find(url: str | None, settings: Settings) -> str:
    """The root of the server to talk to: the one named, that of the store, or the configured one.

    `url` may be given with or without its `/v1`.
    """
    if url:
        return url.rstrip("/").removesuffix("/v1").rstrip("/")
    note = server_note.read(settings.store.path)
    if note and _lives(note.url):
        return note.url
    return root_url(settings.server.host, settings.server.port)


def client(
    root: str, *, timeout_s: float | None = _PATIENCE_S, key: str | None = None
) -> httpx.Client:
    """A client of the server at `root`, which shows `key`.

    Raises:
        SettingsError: if that is no address.
    """
    try:
        url = httpx.URL(root)
        if url.scheme not in ("http", "https") or not url.host:
            raise SettingsError(f"{root} is not the address of a server: it begins with http://")
        # A proxy for the world does not lead to this machine.
        return httpx.Client(
            base_url=url,
            headers={b"Authorization": f"Bearer {key}".encode()} if key else {},
            timeout=httpx.Timeout(timeout_s, connect=_PATIENCE_S),
            trust_env=not _is_local(url.host),
        )
    except httpx.InvalidURL as error:
        raise SettingsError(f"{root} is not the address of a server: {error}") from error


def unreachable(root: str, error: httpx.TransportError) -> ServerError:
    """What to tell who expected a server at `root`."""
    reason = str(error) or type(error).__name__
    return ServerError(
        f"no server answers at {root} ({reason}); start one with: semantic serve, "
        "or name another with --url"
    )


def served_models(
    root: str, *, timeout_s: float = _PATIENCE_S, key: str | None = None
) -> tuple[str, ...]:
    """The names of what a server serves.

    Raises:
        ServerError: if it does not answer as it should.
    """
    try:
        with client(root, timeout_s=timeout_s, key=key) as http:
            answer = http.get("/v1/models")
    except httpx.TransportError as error:
        raise unreachable(root, error) from error
    found = content_of(answer).get("data")
    return tuple(str(model["id"]) for model in found) if isinstance(found, list) else ()


def delete_agent(store: Path, name: str, tenant: TenantId = DEFAULT_TENANT) -> dict[str, Any]:
    """Have the server that owns `store` forget a tenant's agent; what it says of the deletion.

    Raises:
        ServerError: if it cannot be reached, or fails.
        SemanticError: whatever it answers.
    """
    not_ready = f"the store {store} is in use by a server that is not ready; try again in a while"
    return _administered(store, "DELETE", "/admin/agents", not_ready, name=name, tenant=tenant)


def memory_use(store: Path) -> dict[str, Any]:
    """What the server that owns `store` says of its memory for KV.

    Raises:
        ServerError: if there is none, or it fails.
    """
    nobody = f"no server has the store {store}; start one with: semantic serve"
    return _administered(store, "GET", "/admin/memory", nobody)


def content_of(answer: httpx.Response) -> dict[str, Any]:
    """An answer's JSON object; the answer must have been read.

    Raises:
        SemanticError: with the server's words, if it refused.
    """
    try:
        found = answer.json()
    except ValueError:
        found = None
    if answer.is_success and isinstance(found, dict):
        return found
    error = found.get("error") if isinstance(found, dict) else None
    if not isinstance(error, dict):
        raise ServerError(f"{answer.request.url} answered {answer.status_code}: not our server?")
    message = str(error.get("message"))
    match error.get("code"):
        case "agent_not_found":
            raise AgentNotFoundError(message)
        case "agent_busy":
            raise AgentBusyError(message)
    if answer.status_code == httpx.codes.BAD_REQUEST:
        raise InvalidRequestError(message, field=error.get("param"))
    raise ServerError(message)


def _administered(
    store: Path, method: str, path: str, absent: str, **params: str
) -> dict[str, Any]:
    """What the server that owns `store` answers to an operator.

    `absent`: what to tell if there is none.
    """
    note = server_note.read(store)
    if note is None:
        raise ServerError(absent)
    try:
        with client(note.url) as http:
            headers = {"Authorization": f"Bearer {note.token}"}
            return content_of(http.request(method, path, params=params, headers=headers))
    except httpx.ConnectError as error:
        # The note is that of a server before, which was killed.
        raise ServerError(absent) from error
    except httpx.TransportError as error:
        raise unreachable(note.url, error) from error


def _lives(root: str) -> bool:
    try:
        with client(root, timeout_s=_GLANCE_S) as http:
            # One that cannot work any more still owns the store, and says itself what is wrong.
            told = http.get("/health/live").status_code
            return told in (httpx.codes.OK, httpx.codes.SERVICE_UNAVAILABLE)
    except (httpx.TransportError, SettingsError):
        return False


def is_loopback(address: str) -> bool:
    """Whether only this machine has what listens on an IP address.

    Raises:
        ValueError: if it is none.
    """
    found = ip_address(address.partition("%")[0])
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return (mapped or found).is_loopback


def _is_local(host: str) -> bool:
    try:
        return is_loopback(host)
    except ValueError:
        return host == "localhost"

"""Refuses requests that were meant for somebody else's name.

A web page can have its own name lead to this machine (DNS rebinding): the browser then takes the
server for a part of the page, and lets it ask what it likes. Its requests carry the page's name
in `Host`. An address in its place cannot have been rebound. Where a key is needed the page has
none, and any name is fine: so a server in a network is reached by whatever name it has there.
"""

from collections.abc import Iterable
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from semantic.adapters.inbound.errors import ForeignHostError
from semantic.application.access import Access

ANY = "*"
_LOCAL = "localhost"


class OwnHostsMiddleware:
    """`hosts` are the server's names, and `origins` those of pages that may talk to it."""

    def __init__(
        self, app: ASGIApp, access: Access, hosts: Iterable[str], origins: Iterable[str]
    ) -> None:
        self._app = app
        self._access = access
        of_pages = (urlsplit(origin).hostname or "" for origin in origins)
        self._hosts = frozenset(_plain(host) for host in (*hosts, *of_pages))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "http" and self._access.open:
            host = Headers(scope=scope).get("host", "")
            # No browser leaves it out.
            if host and not self._is_own(host):
                raise ForeignHostError(
                    f"this server is not known as {host[:255]!r}: its operator can add that name "
                    "to server.allowed_hosts, or create an API key (semantic keys create)"
                )
        await self._app(scope, receive, send)

    def _is_own(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        name = _plain(name)
        known = name in self._hosts or ANY in self._hosts
        return known or name == _LOCAL or name.endswith(f".{_LOCAL}") or _is_address(name)


def _plain(name: str) -> str:
    return name.strip().lower().rstrip(".")


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True

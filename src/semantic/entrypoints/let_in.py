"""Who is let in by a server, as its settings say."""

from semantic.adapters.config.settings import Settings, SettingsError
from semantic.adapters.inbound.cors import ANY
from semantic.adapters.outbound.storage.key_file import KeyFile
from semantic.application.access import Access
from semantic.ports.telemetry import Telemetry


def let_in(settings: Settings, telemetry: Telemetry, *, reachable: bool) -> Access:
    """Who is let in.

    Raises:
        SettingsError: if others can reach the server, and everybody would be let in.
        CachePersistenceError: if the keys cannot be read.
    """
    http = settings.server
    closed = reachable and not http.allow_open
    keys = KeyFile(settings.store.path)
    access = Access(keys, telemetry, needed=closed)
    if closed and not keys.all():
        raise SettingsError(
            f"others can reach {http.host} (server.host), and there is no API key yet: create one "
            "(semantic keys create NAME), or let everybody in with server.allow_open = true"
        )
    if access.open and ANY in http.origins:
        raise SettingsError(
            "any web page could talk to the server (server.cors_origins is *), and there is no "
            "API key yet: create one (semantic keys create NAME), or name the pages"
        )
    return access

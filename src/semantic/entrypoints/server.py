"""The server process: binds its port, loads, serves, and leaves in good order."""

import asyncio
import math
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import uvicorn

from semantic.adapters.config.logging import configure_logging
from semantic.adapters.config.settings import ServerSettings, Settings, SettingsError
from semantic.adapters.inbound.http_protocol import patient
from semantic.domain.errors import CachePersistenceError
from semantic.entrypoints import server_note
from semantic.entrypoints.bootstrap import Application, build
from semantic.entrypoints.running_server import is_loopback, root_url
from semantic.entrypoints.server_note import ServerNote
from semantic.entrypoints.stop_signals import StopSignals
from semantic.ports.telemetry import Telemetry


def serve(settings: Settings, signals: StopSignals) -> None:
    """Serve until asked to stop.

    Raises:
        SemanticError: if the server cannot start; nothing is left running then.
    """
    configure_logging(settings.logging.level, settings.logging.format)
    token = secrets.token_urlsafe()
    with _bound(settings.server) as listener:
        reachable = not is_loopback(listener.getsockname()[0])
        application = build(settings, token, reachable=reachable)
        signals.count()
        asyncio.run(_run(application, listener, settings, signals, token))


@contextmanager
def _bound(settings: ServerSettings) -> Iterator[socket.socket]:
    """Take the address before anything expensive; connections are refused until it is served."""
    with _address_errors(settings):
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    with listener:
        with _address_errors(settings):
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        yield listener


@contextmanager
def _address_errors(settings: ServerSettings) -> Iterator[None]:
    try:
        yield
    except (OSError, UnicodeError) as error:  # a name may be none that can be asked for
        raise SettingsError(
            f"cannot listen on {settings.host}:{settings.port} (server.host, server.port): {error}"
        ) from error


async def _run(
    application: Application,
    listener: socket.socket,
    settings: Settings,
    signals: StopSignals,
    token: str,
) -> None:
    http = settings.server
    try:
        # Another server may have bound the same port meanwhile: the first to listen has it.
        with _address_errors(http):
            listener.listen()
        root = root_url(*listener.getsockname()[:2])
        application.telemetry.info("serving", url=f"{root}/v1", model=application.model.model_id)
        with _noted(settings.store.path, ServerNote(root, token), application.telemetry):
            await _Server(application, http, signals).serve(sockets=[listener])
    finally:
        await application.close(http.shutdown_timeout_s)


@contextmanager
def _noted(store: Path, note: ServerNote, telemetry: Telemetry) -> Iterator[None]:
    """Leave the server's address in its store while it serves. It serves without, too."""
    try:
        server_note.write(store, note)
    except CachePersistenceError as error:
        telemetry.warning("address_not_left", error=str(error))
    try:
        yield
    finally:
        server_note.remove(store)


class _Server(uvicorn.Server):
    """Stops as `StopSignals` says; uvicorn would raise the signal that ended it once more."""

    def __init__(
        self, application: Application, settings: ServerSettings, signals: StopSignals
    ) -> None:
        super().__init__(
            uvicorn.Config(
                application.app,
                log_config=None,
                access_log=False,
                http=patient(settings.request_timeout_s),
                # Nothing is served over WebSockets, and the doors do not look at them.
                ws="none",
                h11_max_incomplete_event_size=settings.max_header_bytes,
                limit_concurrency=settings.max_connections,
                timeout_graceful_shutdown=math.ceil(settings.cut_off_s),
            )
        )
        self._application = application
        self._signals = signals
        self._patience_s = settings.shutdown_timeout_s
        self.should_exit = signals.asked

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Wait for running answers; end those that take too long, so that their readers are told.

        uvicorn alone would cut them off, as if the server had failed.
        """
        loop = asyncio.get_running_loop()
        ending = loop.call_later(self._patience_s, self._application.end_answers)
        try:
            await super().shutdown(sockets)
        finally:
            ending.cancel()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """While it serves, every request to stop is this server's. uvicorn knows of two."""
        with super().capture_signals():
            self._signals.act(self.handle_exit)
            try:
                yield
            finally:
                self._signals.count()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop accepting, and let running answers end; asked twice, end them."""
        self._signals.noted(sig, frame)
        self.should_exit = True
        if self._signals.impatient:
            self._application.end_answers()

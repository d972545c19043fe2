"""The server process: binds its port, loads, serves, and leaves in good order."""

import asyncio
import math
import signal
import socket
from types import FrameType

import uvicorn

from semantic.adapters.config.logging import configure_logging
from semantic.adapters.config.settings import ServerSettings, Settings, SettingsError
from semantic.entrypoints.bootstrap import Application, build


def serve(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM.

    Raises:
        SemanticError: if the server cannot start; nothing is left running then.
    """
    configure_logging(settings.logging.level, settings.logging.format)
    with _bind(settings.server) as listener:
        application = build(settings)
        asyncio.run(_run(application, listener, settings.server))


def _bind(settings: ServerSettings) -> socket.socket:
    """Take the address before anything expensive; connections are refused until it is served."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise SettingsError(
            f"cannot listen on {settings.host}:{settings.port} (server.host, server.port): {error}"
        ) from error
    return listener


async def _run(application: Application, listener: socket.socket, settings: ServerSettings) -> None:
    host, port = listener.getsockname()[:2]
    application.telemetry.info(
        "serving", url=f"http://{host}:{port}/v1", model=application.model.model_id
    )
    config = uvicorn.Config(
        application.app,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=max(1, math.ceil(settings.shutdown_timeout_s)),
    )
    # uvicorn raises the signal that ended it once more; by then it has been dealt with.
    for ended_by in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ended_by, _noted)
    await uvicorn.Server(config).serve(sockets=[listener])
    await application.close(settings.shutdown_timeout_s)


def _noted(_signal: int, _frame: FrameType | None) -> None:
    """Do nothing: the server is stopping already."""

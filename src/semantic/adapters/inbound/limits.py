"""The bounds within which the HTTP server serves."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Chosen by the operator.

    `ping_interval_s`: a stream that is silent for so long gets a comment line.
    `shutdown_timeout_s`: how long running streams may go on when the server stops.
    `max_header_bytes`: of a request's line and headers. `request_timeout_s`: how long a request
    may take to arrive.
    """

    max_body_bytes: int
    ping_interval_s: float
    shutdown_timeout_s: float
    max_header_bytes: int = 65536
    request_timeout_s: float = 60.0

"""Whether an answer is streamed, and what else the stream carries."""

import enum

from semantic.adapters.inbound.wire import Wire


class StreamUsage(enum.Enum):
    """Where a stream tells its tokens: nowhere, in a last chunk of its own, in every chunk."""

    NOWHERE = "nowhere"
    LAST = "last"
    EVERYWHERE = "everywhere"


class StreamOptions(Wire):
    """What else a stream should carry.

    `continuous_usage_stats` is vLLM's. Nothing is obfuscated: what listens to a connection to
    learn the sizes of its packets is not met on one's own machine.
    """

    include_usage: bool | None = None
    include_obfuscation: bool | None = None
    continuous_usage_stats: bool | None = None


class Streaming(Wire):
    """The fields of a request that speak of its stream."""

    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @property
    def stream_usage(self) -> StreamUsage:
        """Where a stream tells its tokens."""
        options = self.stream_options
        if options is None or not options.include_usage:
            return StreamUsage.NOWHERE
        return StreamUsage.EVERYWHERE if options.continuous_usage_stats else StreamUsage.LAST

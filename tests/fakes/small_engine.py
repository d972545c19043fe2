"""An engine with memory stores, wired as the server wires it, and requests to give it."""

import queue
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.fakes.blocks import SECRET
from tests.fakes.fixed_clock import FixedClock
from tests.fakes.letter_tokenizer import LetterDecoder
from tests.fakes.observed_stores import PATIENCE_S, ObservedAgents, ObservedBlocks
from tests.fakes.recorded_telemetry import RecordedTelemetry
from tests.fakes.scripted_executor import Chooser, ScriptedExecutor, hashed_choice

from semantic.application.block_reader import BlockReader
from semantic.application.disk_threads import SILENCE_S
from semantic.application.engine_job import Job, JobEnded, JobEvent, JobFailed, JobStarted
from semantic.application.engine_loop import EngineLoop, LoopLimits
from semantic.application.engine_work import EngineParts
from semantic.application.kv_cache import CacheLimits, KvCache
from semantic.application.prefix_loading import LoadingLimits
from semantic.application.scheduler import Scheduler, SchedulerLimits
from semantic.application.text_stream import TextStream
from semantic.application.tiered_store import TieredStore
from semantic.application.write_behind import WriteBehind
from semantic.domain.chat import FinishReason
from semantic.domain.ids import SequenceId, TokenId
from semantic.domain.sampling import SamplingParams
from semantic.domain.sequence import Sequence
from semantic.ports.block_store import BlockStore

GREEDY = SamplingParams(temperature=0)


class Listener:
    """Takes a job's events on any thread."""

    def __init__(self) -> None:
        self.events: list[JobEvent] = []
        self._arrivals: queue.SimpleQueue[JobEvent] = queue.SimpleQueue()

    def __call__(self, event: JobEvent) -> None:
        self.events.append(event)
        self._arrivals.put(event)

    def wait(self, *kinds: type[JobEvent]) -> JobEvent:
        """The next event of one of these kinds."""
        while True:
            event = self._arrivals.get(timeout=PATIENCE_S)
            if isinstance(event, kinds):
                return event

    def last(self) -> JobEnded | JobFailed:
        """The end of the job, once it has come."""
        event = self.wait(JobEnded, JobFailed)
        assert isinstance(event, JobEnded | JobFailed)
        return event

    @property
    def ends(self) -> list[JobEnded | JobFailed]:
        return [event for event in self.events if isinstance(event, JobEnded | JobFailed)]

    def check(self) -> None:
        """`JobStarted` first unless it failed, one end, and nothing after it."""
        assert len(self.ends) == 1, self.events
        assert self.events[-1] is self.ends[0]
        started = [event for event in self.events if isinstance(event, JobStarted)]
        assert len(started) <= 1
        if started or isinstance(self.ends[0], JobEnded):
            assert self.events[0] is started[0]

    def answer(self) -> tuple[TokenId, ...]:
        """What was generated, once the job has ended as it should."""
        end = self.last()
        assert isinstance(end, JobEnded), end
        assert end.reason is not FinishReason.CANCELLED
        self.check()
        return end.generated

    @property
    def cached(self) -> int:
        (end,) = self.ends
        assert isinstance(end, JobEnded)
        return end.cached_tokens


def make_job(
    number: int,
    prompt: tuple[TokenId, ...],
    max_tokens: int = 8,
    stops: tuple[str, ...] = (),
    stop_tokens: frozenset[TokenId] = frozenset(),
    system_end: int = 0,
) -> tuple[Job, Listener]:
    listener = Listener()
    job = Job(
        sequence=Sequence(SequenceId(number), prompt, GREEDY, max_tokens, system_end),
        text=TextStream(LetterDecoder(), stops),
        stop_tokens=stop_tokens,
        emit=listener,
    )
    return job, listener


def right_answer(
    prompt: tuple[TokenId, ...], length: int, choose: Chooser = hashed_choice
) -> tuple[TokenId, ...]:
    """What follows `prompt` if no KV is ever wrong."""
    tokens = prompt
    for _ in range(length):
        tokens += (choose(tokens),)
    return tokens[len(prompt) :]


@dataclass
class SmallEngine:
    """Give a new one the stores of another, and the server has been restarted.

    What is read comes from `disk`, if there is one: something around `blocks`.
    """

    executor: ScriptedExecutor = field(default_factory=ScriptedExecutor)
    blocks: ObservedBlocks = field(default_factory=ObservedBlocks)
    agents: ObservedAgents = field(default_factory=ObservedAgents)
    telemetry: RecordedTelemetry = field(default_factory=RecordedTelemetry)
    clock: FixedClock = field(default_factory=FixedClock)
    hot_bytes: int = 1 << 20
    kv_bytes: int = 1 << 40
    padding_limit: int = 1 << 40
    queue_bytes: int = 1 << 20
    state_interval: int = 2048
    resume_points: int = 8
    read_timeout_s: float = 60.0
    restore_always: bool = False
    disk: BlockStore | None = None
    limits: SchedulerLimits = field(default_factory=lambda: SchedulerLimits(4, 512, 256))
    max_jobs: int = 64
    step_timeout_s: float = 300.0

    def __post_init__(self) -> None:
        self.writes = WriteBehind(self.blocks, self.agents, self.queue_bytes, self.telemetry)
        self.tiers = TieredStore(self.disk or self.blocks, self.writes)
        self.silence_s = min(SILENCE_S, self.read_timeout_s)
        limits = CacheLimits(
            self.hot_bytes,
            self.state_interval,
            self.resume_points,
            self.silence_s,
            self.kv_bytes,
        )
        self.cache = KvCache(self.executor, self.writes, limits, self.telemetry, SECRET)
        self.loop = EngineLoop(
            LoopLimits(self.max_jobs, self.step_timeout_s), self.clock, self.telemetry
        )

    def parts(self) -> EngineParts:
        self.cache.discover(self.tiers)
        return EngineParts(
            executor=self.executor,
            cache=self.cache,
            scheduler=Scheduler(self.limits, self.executor.batch_bytes, self.padding_limit),
            reader=BlockReader(self.tiers, 2, self.clock, self.telemetry),
            clock=self.clock,
            telemetry=self.telemetry,
            loading=LoadingLimits(self.read_timeout_s, always=self.restore_always),
        )

    @contextmanager
    def running(self) -> Iterator[EngineLoop]:
        """Started, and at the end stopped with everything written."""
        self.loop.start(self.parts)
        try:
            yield self.loop
        finally:
            self.close()

    def close(self) -> None:
        assert self.loop.stop(PATIENCE_S)
        assert self.writes.close(PATIENCE_S)
        assert not self.executor.sequences

    def restarted(self, kv_bytes: int | None = None) -> "SmallEngine":
        """A new process over the same stores."""
        return SmallEngine(
            executor=ScriptedExecutor(
                self.executor.spec,
                self.executor.choose,
                trusting=self.executor.trusting,
                bytes_per_token=self.executor.bytes_per_token,
            ),
            blocks=self.blocks,
            agents=self.agents,
            hot_bytes=self.hot_bytes,
            kv_bytes=kv_bytes or self.kv_bytes,
            queue_bytes=self.queue_bytes,
            state_interval=self.state_interval,
            resume_points=self.resume_points,
            limits=self.limits,
        )

    def names(self, *levels: str) -> list[str]:
        """What was reported, at these levels or all."""
        return [name for level, name, _ in self.telemetry.events if not levels or level in levels]

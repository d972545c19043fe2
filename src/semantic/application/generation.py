"""The use case: a request becomes a sequence, its events an answer, the answer a memory.

Implements the port `Inference`. An answer's last event waits until its memory is safe, or, as the
settings say, only until it is handed to the writer. Runs on the event loop; text is tokenized on
threads of its own, the engine works on another. Invariant: an answer that was begun ends; whatever
it waits for, a disk, a tokenizer, an engine that hangs, it waits for with an end.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from semantic.application.agents import Agents, OpenAgent
from semantic.application.answer_clock import AnswerClock
from semantic.application.answer_events import AnswerEvents
from semantic.application.answer_stream import AnswerStream
from semantic.application.chain import Chain
from semantic.application.engine_job import Job, JobEnded, JobFailed
from semantic.application.engine_loop import EngineLoop
from semantic.application.job_events import JobEvents
from semantic.application.prompts import Prompt, Prompts
from semantic.application.text_stream import TextStream
from semantic.application.text_work import TextWork
from semantic.domain.agent import Segment
from semantic.domain.answer_length import AnswerLength
from semantic.domain.chat import Conversation, Finished, GenerationRequest, RawPrompt, Usage
from semantic.domain.errors import EngineError, ModelNotFoundError
from semantic.domain.ids import PUBLIC, SequenceId
from semantic.domain.sampling import SamplingParams
from semantic.domain.sequence import Sequence
from semantic.ports.answer_constraints import AnswerConstraints, Constraint
from semantic.ports.clock import Clock
from semantic.ports.inference import ModelInfo
from semantic.ports.telemetry import Telemetry
from semantic.ports.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class GenerationLimits:
    """`awaits_commit`: whether an answer ends only once its memory is safe.

    `commit_timeout_s`: for how long at most; where nobody waits, what takes longer is reported.
    """

    default_max_tokens: int
    commit_timeout_s: float
    awaits_commit: bool


@dataclass(frozen=True, slots=True)
class AnsweringModel:
    """What answers, with one of `vocab_size` tokens after the other.

    `resumes_anywhere`: whether its memory can be continued from any position. `max_kv_tokens`: how
    many tokens of one request the KV budget holds; None if any number. Without `constraints` no
    answer is held to a form.
    """

    info: ModelInfo
    tokenizer: Tokenizer
    resumes_anywhere: bool
    vocab_size: int
    max_kv_tokens: int | None = None
    constraints: AnswerConstraints | None = None


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is not the application's own: time, chance, and who hears reports."""

    clock: Clock
    telemetry: Telemetry
    new_seed: Callable[[], int]


class Generation:
    """Answers requests with one loaded model."""

    def __init__(
        self,
        model: AnsweringModel,
        engine: EngineLoop,
        agents: Agents,
        limits: GenerationLimits,
        surroundings: Surroundings,
    ) -> None:
        self._model = model.info
        self._vocab_size = model.vocab_size
        self._new_seed = surroundings.new_seed
        self._tokenizer = model.tokenizer
        self._prompts = Prompts(model.tokenizer, resumes_anywhere=model.resumes_anywhere)
        self._constraints = model.constraints
        self._text = TextWork()
        self._engine = engine
        self._agents = agents
        self._limits = limits
        self._length = AnswerLength(
            model.info.max_context, limits.default_max_tokens, model.max_kv_tokens
        )
        self._clock = surroundings.clock
        self._telemetry = surroundings.telemetry
        self._ids = itertools.count()
        self._running: set[asyncio.Task[None]] = set()

    def models(self) -> tuple[ModelInfo, ...]:
        """What is being served."""
        return (self._model,)

    def ready(self) -> bool:
        """Whether a request would be worked on."""
        return self._engine.alive

    def failure(self) -> str | None:
        """Why no request would be worked on though nobody stops the server; see the port."""
        return self._engine.failure

    async def generate(self, request: GenerationRequest) -> AnswerStream:
        """Admit a request and return its events; see the port."""
        clock = AnswerClock(self._clock)
        self._check_model(request.model)
        request.sampling.check_vocabulary(self._vocab_size)
        agent = None
        if request.agent:
            agent = await self._agents.open(request.agent, request.tenant)
        try:
            branches = agent.record.branches if agent else ()
            prompt = await self._prompts.of(request.prompt, branches)
            constraint = await self._constraint(request, prompt)
            max_tokens = self._length.of(len(prompt.tokens), request.sampling.max_tokens)
            answer = _Answer(
                request, prompt, max_tokens, SequenceId(next(self._ids)), clock, constraint
            )
            stream = await self._submit(answer, agent)
        except BaseException:
            if agent:
                self._agents.close(agent)
            raise
        return stream

    async def drain(self, timeout_s: float) -> bool:
        """Wait until the answers are remembered. False if that took longer than `timeout_s`."""
        if not self._running:
            return True
        _, unfinished = await asyncio.wait(self._running, timeout=timeout_s)
        return not unfinished

    async def count(self, asked: Conversation | RawPrompt, model: str) -> int:
        """Tokens of a prompt; see the port."""
        self._check_model(model)
        return len((await self._prompts.of(asked)).tokens)

    def _check_model(self, model: str) -> None:
        if model != self._model.model_id:
            raise ModelNotFoundError(model, tried=(f"served: {self._model.model_id}",))

    async def _constraint(self, request: GenerationRequest, prompt: Prompt) -> Constraint | None:
        """The form of the answer, if it has one; made on a thread, as anybody's schema may be."""
        constraints = self._constraints
        if constraints is None or not (request.use.tools or request.json):
            return None
        reasons = self._tokenizer.syntax.begins_in(prompt.asked.text)
        return await self._text.done(
            lambda: constraints.of(request.use, request.json, reasons=reasons)
        )

    def _seeded(self, sampling: SamplingParams) -> SamplingParams:
        """With a seed in any case: who is preempted must go on with the same draws."""
        return sampling if sampling.seed is not None else replace(sampling, seed=self._new_seed())

    async def _submit(self, answer: "_Answer", agent: OpenAgent | None) -> AnswerStream:
        events = JobEvents(self._engine)
        job = Job(
            sequence=Sequence(
                id=answer.sequence,
                prompt=answer.prompt.tokens,
                sampling=self._seeded(answer.request.sampling),
                max_tokens=answer.max_tokens,
                system_end=answer.prompt.system_end,
                tenant=answer.request.tenant,
                agent=agent.agent.key if agent else None,
            ),
            text=TextStream(self._tokenizer.decoder(), answer.request.sampling.stop),
            stop_tokens=self._tokenizer.stop_tokens,
            emit=events.post,
            chain=Chain(named=agent is not None or answer.request.tenant == PUBLIC),
            constraint=answer.constraint,
        )
        stream = AnswerStream(cancel=lambda: self._engine.cancel(answer.sequence))
        self._engine.submit(job)
        task = asyncio.create_task(self._drive(answer, agent, events, stream))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return stream

    async def _drive(
        self,
        answer: "_Answer",
        agent: OpenAgent | None,
        events: JobEvents,
        stream: AnswerStream,
    ) -> None:
        """Turn the engine's events into the answer's; goes on if nobody listens any more."""
        saving: Awaitable[bool] | None = None
        try:
            ended = await self._told(answer, events, stream)
            if ended is None:
                # An engine that hangs and comes back must not go on with it.
                self._engine.cancel(answer.sequence)
                return
            timings = answer.clock.timings()
            if agent:
                saving = await self._remember(agent, answer.prompt, ended)
            if agent and saving and self._limits.awaits_commit:
                await self._committed(agent, saving)
                saving = None
            usage = Usage(len(answer.prompt.tokens), ended.cached_tokens, len(ended.generated))
            stream.put(Finished(ended.reason, usage, timings))
        except Exception as error:  # noqa: BLE001 - a bug must not leave the client waiting
            self._telemetry.error("request_failed", error=repr(error))
            stream.fail(EngineError(f"internal error: {error}"))
        finally:
            if agent:
                self._agents.close(agent)
        if agent and saving:
            await self._committed(agent, saving)

    async def _told(
        self, answer: "_Answer", events: JobEvents, stream: AnswerStream
    ) -> JobEnded | None:
        """Pass on what the engine tells, to its end; None if it failed."""
        told = AnswerEvents(self._tokenizer, answer.clock, len(answer.prompt.tokens))
        while True:
            event = await events.next()
            for one in told.of(event):
                stream.put(one)
            match event:
                case JobFailed(error):
                    stream.fail(error)
                    return None
                case JobEnded() as ended:
                    return ended

    async def _remember(
        self, agent: OpenAgent, prompt: Prompt, ended: JobEnded
    ) -> Awaitable[bool] | None:
        """Remember the turn; it is safe when what is returned says so.

        That it could not be remembered is reported, and costs no answer.
        """
        answered = ended.remembered
        # A question asked again leaves nothing new before the answer, and no segment.
        new: tuple[Segment, ...] = (prompt.asked,) if prompt.asked.text else ()
        try:
            if answered:
                new += (await self._prompts.answered(answered),)
            return self._agents.remember(agent, prompt.recalled, new) if new else None
        except Exception as error:  # noqa: BLE001 - as said: the answer has been given
            self._telemetry.error("turn_not_remembered", error=repr(error))
            return None

    async def _committed(self, agent: OpenAgent, saving: Awaitable[bool]) -> None:
        """Wait for a turn to be safe, but not for ever: it goes on behind in any case."""
        try:
            await asyncio.wait_for(saving, self._limits.commit_timeout_s)
        except TimeoutError:
            self._telemetry.warning("commit_timed_out", agent=agent.agent.key)


@dataclass(frozen=True, slots=True)
class _Answer:
    """A request on its way through the engine."""

    request: GenerationRequest
    prompt: Prompt
    max_tokens: int
    sequence: SequenceId
    clock: AnswerClock
    constraint: Constraint | None = None

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

from semantic.application.admitted_answer import AdmittedAnswer
from semantic.application.agents import Agents
from semantic.application.answer_clock import AnswerClock
from semantic.application.answer_events import AnswerEvents
from semantic.application.answer_stream import AnswerStream
from semantic.application.chain import Chain
from semantic.application.engine_job import Job, JobEnded, JobFailed, JobStarted
from semantic.application.engine_loop import EngineLoop
from semantic.application.heard_answer import HeardAnswer
from semantic.application.job_events import JobEvents
from semantic.application.miss_report import MissReport
from semantic.application.prompts import Prompt, Prompts
from semantic.application.recent_turns import RecentTurns
from semantic.application.text_stream import TextStream
from semantic.application.text_work import TextWork
from semantic.application.turn_memory import TurnMemory
from semantic.domain.answer_length import AnswerLength
from semantic.domain.answer_parser import AnswerParser, parser_of
from semantic.domain.cache_spec import BLOCK_SIZE
from semantic.domain.chat import (
    NOBODY,
    Asker,
    Conversation,
    Finished,
    GenerationRequest,
    RawPrompt,
    Started,
)
from semantic.domain.errors import EngineError, ModelNotFoundError
from semantic.domain.ids import PUBLIC, SequenceId, TokenId
from semantic.domain.sampling import SamplingParams
from semantic.domain.sequence import Sequence
from semantic.domain.stable_prompt import ALL_RULES, Rule
from semantic.ports.answer_constraints import AnswerConstraints, Constraint
from semantic.ports.clock import Clock
from semantic.ports.inference import ModelInfo
from semantic.ports.telemetry import Telemetry
from semantic.ports.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class GenerationLimits:
    """`awaits_commit`: whether an answer ends only once its memory is safe.

    `commit_timeout_s`: for how long at most; where nobody waits, what takes longer is reported.
    `recent_turns`: conversations of those who name no agent that are remembered of each tenant.
    """

    default_max_tokens: int
    commit_timeout_s: float
    awaits_commit: bool
    recent_turns: int = 0


@dataclass(frozen=True, slots=True)
class AnsweringModel:
    """What answers, with one of `vocab_size` tokens after the other.

    `resumes_anywhere`: whether its memory can be continued from any position. `max_kv_tokens`: how
    many tokens of one request the KV budget holds; None if any number. Without `constraints` no
    answer is held to a form. `rules` say what of a conversation it is not shown.
    """

    info: ModelInfo
    tokenizer: Tokenizer
    resumes_anywhere: bool
    vocab_size: int
    max_kv_tokens: int | None = None
    constraints: AnswerConstraints | None = None
    rules: frozenset[Rule] = ALL_RULES


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is not the application's own: time, chance, and who hears reports."""

    clock: Clock
    telemetry: Telemetry
    new_seed: Callable[[], int]
    new_call_id: Callable[[], str]


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
        self._new_call_id = surroundings.new_call_id
        self._tokenizer = model.tokenizer
        self._prompts = Prompts(
            model.tokenizer, resumes_anywhere=model.resumes_anywhere, rules=model.rules
        )
        self._constraints = model.constraints
        self._text = TextWork()
        self._engine = engine
        self._turns = TurnMemory(
            agents,
            RecentTurns(limits.recent_turns),
            self._prompts,
            surroundings.telemetry,
            limits.commit_timeout_s,
        )
        near = 0 if model.resumes_anywhere else BLOCK_SIZE
        self._misses = MissReport(self._prompts, limits.recent_turns, near=near)
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
        if isinstance(request.prompt, RawPrompt):
            request.prompt.check_vocabulary(self._vocab_size)
        turn = await self._turns.open(request.asker)
        try:
            prompt = await self._prompts.of(request.prompt, turn.branches)
            # What the model is shown is what it is held to.
            request = replace(request, prompt=prompt.said)
            compared = await self._misses.compared(request, turn, prompt)
            constraint = await self._constraint(request, prompt)
            raw = isinstance(prompt.said, RawPrompt)
            max_tokens = self._length.of(
                len(prompt.tokens),
                request.sampling.max_tokens,
                "prompt" if raw else "messages",
                as_fits=request.as_fits,
            )
            number = SequenceId(next(self._ids))
            answer = AdmittedAnswer(
                request, prompt, turn, compared, max_tokens, number, clock, constraint
            )
            stream = await self._submit(answer)
        except BaseException:
            self._turns.close(turn)
            raise
        return stream

    async def drain(self, timeout_s: float) -> bool:
        """Wait until the answers are remembered. False if that took longer than `timeout_s`."""
        if not self._running:
            return True
        _, unfinished = await asyncio.wait(self._running, timeout=timeout_s)
        return not unfinished

    async def count(
        self, asked: Conversation | RawPrompt, model: str, asker: Asker = NOBODY
    ) -> int:
        """Tokens of a prompt; see the port."""
        self._check_model(model)
        turn = await self._turns.open(asker)
        try:
            return len((await self._prompts.of(asked, turn.branches)).tokens)
        finally:
            self._turns.close(turn)

    def _check_model(self, model: str) -> None:
        if not self._model.answers_to(model):
            raise ModelNotFoundError(model, tried=(f"served: {self._model.model_id}",))

    async def _constraint(self, request: GenerationRequest, prompt: Prompt) -> Constraint | None:
        """The form of the answer, if it has one; made on a thread, as anybody's schema may be."""
        constraints = self._constraints
        if constraints is None or not (request.use.tools or request.json):
            return None
        reasons = self._tokenizer.syntax.begins_in(prompt.text_end)
        use, json = request.use, request.json
        # Who asks for what is known waits for nobody's new schema.
        if known := constraints.known(use, json, reasons=reasons):
            return known
        return await self._text.done(lambda: constraints.of(use, json, reasons=reasons))

    def _seeded(self, sampling: SamplingParams) -> SamplingParams:
        """With a seed in any case: who is preempted must go on with the same draws."""
        return sampling if sampling.seed is not None else replace(sampling, seed=self._new_seed())

    def _stop_tokens(self, sampling: SamplingParams) -> frozenset[TokenId]:
        return frozenset() if sampling.ignore_eos else self._tokenizer.stop_tokens

    async def _submit(self, answer: AdmittedAnswer) -> AnswerStream:
        agent = answer.turn.agent
        events = JobEvents(self._engine)
        request = answer.request
        job = Job(
            sequence=Sequence(
                id=answer.sequence,
                prompt=answer.prompt.tokens,
                sampling=self._seeded(answer.request.sampling),
                max_tokens=max(1, answer.max_tokens),  # a prompt is computed when a token comes
                system_end=answer.prompt.system_end,
                tenant=answer.request.tenant,
                agent=agent.agent.key if agent else None,
            ),
            text=TextStream(self._tokenizer.decoder(), request.sampling.stop, self._parser(answer)),
            stop_tokens=self._stop_tokens(request.sampling),
            emit=events.post,
            chain=Chain(named=agent is not None or request.keeps or request.tenant == PUBLIC),
            constraint=answer.constraint,
        )
        stream = AnswerStream(cancel=lambda: self._engine.cancel(answer.sequence))
        self._engine.submit(job)
        task = asyncio.create_task(self._drive(answer, events, stream))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return stream

    def _parser(self, answer: AdmittedAnswer) -> AnswerParser | None:
        """Reads the answer; what continues a raw prompt is text and nothing else."""
        if isinstance(answer.request.prompt, RawPrompt):
            return None
        syntax = self._tokenizer.syntax
        reasons = syntax.begins_in(answer.prompt.text_end)
        return parser_of(syntax, answer.request.use, reasons=reasons)

    async def _drive(self, answer: AdmittedAnswer, events: JobEvents, stream: AnswerStream) -> None:
        """Turn the engine's events into the answer's; goes on if nobody listens any more."""
        turn = answer.turn
        saving: Awaitable[bool] | None = None
        heard = HeardAnswer()
        try:
            ended = await self._told(answer, events, stream, heard)
            if ended is None:
                # An engine that hangs and comes back must not go on with it.
                self._engine.cancel(answer.sequence)
                return
            timings = answer.clock.timings()
            generated = ended.remembered or ()
            self._misses.answered(answer.request, turn, answer.compared, generated)
            saving = await self._turns.remember(turn, answer.prompt, ended, heard.message)
            if saving and self._limits.awaits_commit:
                await self._turns.safe(turn, saving)
                saving = None
            stream.put(Finished(ended.reason, answer.usage(ended), timings, ended.stop))
        except Exception as error:  # noqa: BLE001 - a bug must not leave the client waiting
            self._telemetry.error("request_failed", error=repr(error))
            stream.fail(EngineError(f"internal error: {error}"))
        finally:
            self._turns.close(turn)
        if saving:
            await self._turns.safe(turn, saving)

    async def _told(
        self, answer: AdmittedAnswer, events: JobEvents, stream: AnswerStream, heard: HeardAnswer
    ) -> JobEnded | None:
        """Pass on what the engine tells, to its end; None if it failed."""
        told = AnswerEvents(
            self._tokenizer, answer.clock, len(answer.prompt.tokens), self._new_call_id
        )
        while True:
            event = await events.next()
            for one in told.of(event):
                if isinstance(one, Started) and isinstance(event, JobStarted):
                    stream.put(replace(one, reuse=answer.compared.reuse(event)))
                elif answer.shows(one):
                    heard.hear(one)
                    stream.put(one)
            match event:
                case JobFailed(error):
                    stream.fail(error)
                    return None
                case JobEnded() as ended:
                    return answer.ended(ended)

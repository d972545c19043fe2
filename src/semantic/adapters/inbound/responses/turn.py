"""One request, read: what is asked, what it goes on from, and what its response will be."""

from dataclasses import dataclass

from starlette.requests import Request

from semantic.adapters.inbound.caller import caller_of
from semantic.adapters.inbound.identity import BodyNames, agent_of
from semantic.adapters.inbound.responses.answer import Answer
from semantic.adapters.inbound.responses.diagnosis import diagnosis
from semantic.adapters.inbound.responses.items import Item
from semantic.adapters.inbound.responses.kept_json import Json
from semantic.adapters.inbound.responses.past import (
    Past,
    answered,
    may_be_id,
    named,
    past_of,
    resolved,
)
from semantic.adapters.inbound.responses.request import ResponseRequest
from semantic.adapters.inbound.responses.resource import Response, encoded
from semantic.adapters.inbound.responses.surroundings import Surroundings
from semantic.adapters.inbound.responses.toolbox import Toolbox
from semantic.domain.chat import GenerationRequest, Started
from semantic.domain.ids import RequestId, TenantId
from semantic.domain.stored_response import ResponseId, StoredResponse


@dataclass(frozen=True, slots=True)
class Turn:
    """`new` is what was not said before; `compared` the response that reuse is compared with."""

    body: ResponseRequest
    tenant: TenantId
    tools: Toolbox
    past: Past
    new: list[Item]
    response: Response
    compared: Json | None

    @property
    def kept(self) -> bool:
        """Whether the response is to be kept, and can be."""
        return bool(self.response.echo["store"])

    @property
    def first(self) -> ResponseId:
        """The response that the chain begins with."""
        return self.past.first or ResponseId(self.response.id)

    def asked(self, request: Request) -> GenerationRequest:
        """The same in the domain's terms.

        Raises:
            InvalidRequestError: naming the field that is wrong.
        """
        compared = self.body.compared_with
        names = BodyNames(cache_key=self.body.prompt_cache_key, user=self.body.user)
        return GenerationRequest(
            # By the name that later requests compare themselves with.
            request_id=RequestId(self.response.id),
            model=self.body.model,
            prompt=self.body.conversation_of((*self.past.items, *self.new), self.tools),
            sampling=self.body.sampling(),
            agent=agent_of(request, names),
            tenant=self.tenant,
            json=self.body.form(),
            compared_to=RequestId(compared) if compared else None,
            keeps=self.kept,
        )

    def answer(self, around: Surroundings) -> Answer:
        """What will tell of it."""
        history = around.history

        async def keep(whole: Json) -> bool:
            return history is not None and await history.keep(self._link(whole))

        def diagnose(started: Started) -> Json | None:
            if self.body.compared_with is None:
                return None
            return diagnosis(self.response.echo, self.compared, started)

        return Answer(self.response, around.clock, keep if self.kept else None, diagnose)

    def _link(self, whole: Json) -> StoredResponse:
        return StoredResponse(
            id=ResponseId(self.response.id),
            created_at=self.response.created_at,
            asked=encoded(named(self.new, self.response.key)),
            answered=encoded(whole),
            first=self.first,
            previous=self.past.last,
            tenant=self.tenant,
        )


async def turn_of(request: Request, body: ResponseRequest, around: Surroundings) -> Turn:
    """What a request asks for.

    Raises:
        InvalidRequestError: naming the field that is wrong.
        PreviousResponseNotFoundError: if it goes on from what is not there.
        CachePersistenceError: if the store fails.
    """
    tenant, tools = caller_of(request).tenant, body.toolbox()
    past = await past_of(body.previous_response_id, tenant, around.history)
    echo = body.echoed()
    response = Response(
        key=around.new_id(),
        created_at=int(around.clock.time()),
        echo=echo if around.history else {**echo, "store": False},
        offered=tools.offered,
        logprobs=body.wants_logprobs,
        seals=body.wants_sealed_reasoning,
        answers=not body.prewarms,
    )
    new = await resolved(body.input or (), past, tenant, around.history)
    compared = await _compared(body.compared_with, tenant, around)
    return Turn(body, tenant, tools, past, new, response, compared)


async def _compared(name: str | None, tenant: TenantId, around: Surroundings) -> Json | None:
    if name is None or around.history is None or not may_be_id(name):
        return None
    found = await around.history.response(tenant, ResponseId(name))
    return answered(found) if found else None

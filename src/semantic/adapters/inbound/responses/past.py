"""What was said before: the items of a chain of responses, and items that are only named.

Items are kept with what was new in each request and with what was answered; a chain of them is
read again whole, and in order.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from semantic.adapters.inbound.errors import PreviousResponseNotFoundError
from semantic.adapters.inbound.responses.items import Item, ItemReference, as_json, read_items
from semantic.adapters.inbound.responses.kept_json import Json
from semantic.application.response_history import Chain, ResponseHistory
from semantic.domain.errors import CacheCorruptionError, InvalidRequestError
from semantic.domain.ids import TenantId
from semantic.domain.stored_response import ResponseId, StoredResponse

_PREFIXES: Mapping[str, str] = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "custom_tool_call": "ctc",
    "function_call_output": "fco",
    "custom_tool_call_output": "ctco",
}


class _Answered(BaseModel):
    """The part of a kept response that is read again."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)

    output: list[Item]


@dataclass(frozen=True, slots=True)
class Past:
    """`items` were said before; `first` and `last` are the ends of their chain, if there is one."""

    items: tuple[Item, ...] = ()
    first: ResponseId | None = None
    last: ResponseId | None = None


async def past_of(previous: str | None, tenant: TenantId, history: ResponseHistory | None) -> Past:
    """What a request goes on from.

    Raises:
        PreviousResponseNotFoundError: if that, or what it goes on from, is not there.
        CachePersistenceError: if the store fails.
    """
    if previous is None:
        return Past()
    last, known = ResponseId(previous), may_be_id(previous)
    past = await history.chain(tenant, last, _told_in) if history and known else None
    if past is None:
        raise PreviousResponseNotFoundError(previous)
    return past


def _told_in(chain: Chain) -> Past:
    items = tuple(item for link in chain for item in (*asked_in(link), *answered_in(link)))
    return Past(items, chain[0].first, chain[-1].id)


def asked_in(link: StoredResponse) -> list[Item]:
    """What was new in a request."""
    try:
        return read_items(link.asked)
    except ValueError as error:
        raise CacheCorruptionError(f"items of {link.id} cannot be understood") from error


def answered_in(link: StoredResponse) -> list[Item]:
    """What came of it."""
    try:
        return _Answered.model_validate_json(link.answered).output
    except ValueError as error:
        raise CacheCorruptionError(f"response {link.id} cannot be understood") from error


def answered(link: StoredResponse) -> Json:
    """The response as it was given.

    Raises:
        CacheCorruptionError: if it was not written here.
    """
    try:
        found = json.loads(link.answered)
    except ValueError as error:
        raise CacheCorruptionError(f"response {link.id} is no JSON") from error
    if not isinstance(found, dict):
        raise CacheCorruptionError(f"response {link.id} is no object")
    return found


async def resolved(
    items: Sequence[Item], past: Past, tenant: TenantId, history: ResponseHistory | None
) -> list[Item]:
    """The items, with those in the place of references that these name.

    Raises:
        InvalidRequestError: if one of them is not there.
        CachePersistenceError: if the store fails.
    """
    known = {as_json(item).get("id"): item for item in past.items}
    found: list[Item] = []
    for number, item in enumerate(items):
        if isinstance(item, ItemReference):
            named = known.get(item.id) or await _kept(item.id, tenant, history)
            if named is None:
                raise InvalidRequestError(
                    f"Item with id '{item.id}' not found.", field=f"input.{number}"
                )
            found.append(named)
        else:
            found.append(item)
    return found


async def _kept(name: str, tenant: TenantId, history: ResponseHistory | None) -> Item | None:
    """An item of a response that is kept; its name tells of which."""
    key = name.partition("_")[2].rpartition("_")[0]
    response = f"resp_{key}"
    if not history or not may_be_id(response):
        return None
    link = await history.response(tenant, ResponseId(response))
    if link is None:
        return None
    items = (*asked_in(link), *answered_in(link))
    return next((item for item in items if as_json(item).get("id") == name), None)


def named(items: Sequence[Item], key: str) -> list[Json]:
    """New items as they are kept: each with a name, which tells where it is to be found."""
    found: list[Json] = []
    for number, item in enumerate(items):
        told = as_json(item)
        prefix = _PREFIXES.get(item.type or "", "item")
        found.append({"id": f"{prefix}_{key}_in{number}", **_without_null_id(told)})
    return found


def _without_null_id(told: Json) -> Json:
    return {name: value for name, value in told.items() if name != "id" or value is not None}


def may_be_id(text: str) -> bool:
    """Whether a response could be called so."""
    return text.isascii() and text.isprintable() and bool(text)

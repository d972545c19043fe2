"""A response's input items, page by page."""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import QueryParams

from semantic.adapters.inbound.responses.kept_json import Json
from semantic.domain.errors import InvalidRequestError

_MAX_PAGE = 100
_DEFAULT_PAGE = 20


class Page(BaseModel):
    """Which items are asked for, and in which order."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    limit: int = Field(default=_DEFAULT_PAGE, ge=1, le=_MAX_PAGE)
    order: str = Field(default="desc", pattern="^(asc|desc)$")
    after: str | None = None


def page_of(query: QueryParams) -> Page:
    """The page that a query names.

    Raises:
        InvalidRequestError: naming the parameter that is wrong.
    """
    try:
        return Page.model_validate(dict(query))
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
        field = ".".join(map(str, problem["loc"]))
        raise InvalidRequestError(f"{field}: {problem['msg']}", field=field) from error


def listed(items: Sequence[Json], page: Page) -> Json:
    """The page.

    Raises:
        InvalidRequestError: if there is no item to begin after.
    """
    ordered = list(items if page.order == "asc" else reversed(items))
    ids = [str(item.get("id")) for item in ordered]
    start = 0
    if page.after is not None:
        if page.after not in ids:
            raise InvalidRequestError(f"there is no item {page.after!r}", field="after")
        start = ids.index(page.after) + 1
    found = ordered[start : start + page.limit]
    names = ids[start : start + page.limit]
    return {
        "object": "list",
        "data": list(found),
        "first_id": names[0] if names else None,
        "last_id": names[-1] if names else None,
        "has_more": start + page.limit < len(ordered),
    }

"""A request's JSON body as a validated value, or an error that names what is wrong in it."""

from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from semantic.domain.errors import InvalidRequestError

_CONTENT_TYPE = "application/json"

Body = TypeVar("Body", bound=BaseModel)


async def read_body(request: Request, model: type[Body]) -> Body:
    """Read and validate.

    Other content types are refused: a browser sends those to any local server for any web page
    without asking it first (CORS "simple requests").

    Raises:
        InvalidRequestError: naming the first wrong field by its dotted path.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != _CONTENT_TYPE:
        raise InvalidRequestError(
            f"the body must be JSON, sent with the header Content-Type: {_CONTENT_TYPE}",
            field="Content-Type",
        )
    try:
        return model.model_validate_json(await request.body())
    except ValidationError as error:
        raise _translated(error) from error


def _translated(error: ValidationError) -> InvalidRequestError:
    problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
    path = ".".join(str(part) for part in problem["loc"])
    message = f"{path}: {problem['msg']}" if path else problem["msg"]
    return InvalidRequestError(message, field=path or None)

"""How the service says no: the status codes, and the reasons in one line."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import HTTPException, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from src.errors import UserError


class Refusal(BaseModel):
    """The answer to a request that is not served.

    Attributes:
        detail: the reason, one line; or one object for each wrong parameter.
    """

    detail: str | list[Any]


_REASONS = {
    400: "a body that is no form",
    401: "a change without the token",
    403: "a change from a page of another site",
    404: "no such class, picture or path",
    413: "too many bytes",
    421: "another host",
    422: "not a picture, or a wrong parameter",
    503: "the gallery cannot be used now, or the request took too long",
}
"""By status code."""


def refusals(*codes: int) -> dict[int | str, dict[str, Any]]:
    """Describe the status codes that a route can answer, besides 200, for `/docs`."""
    always = (413, 421, 422, 503)
    return {
        code: {"description": _REASONS[code], "model": Refusal}
        for code in sorted({*codes, *always})
    }


@contextmanager
def explained() -> Iterator[None]:
    """Answer 503 if the gallery cannot be used: not what was asked is wrong, but its state."""
    try:
        yield
    except UserError as error:
        raise HTTPException(503, str(error)) from error


async def refused(_: Request, error: Exception) -> JSONResponse:
    """Answer bad input with its one line."""
    return JSONResponse({"detail": str(error)}, 422)

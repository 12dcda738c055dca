"""Refuses requests that the service must not serve: an ASGI middleware.

A browser lets any page send requests to 127.0.0.1. So the service checks the `Host` header (against
DNS rebinding) and the `Origin` header (against cross-site requests). It also limits the bytes of a
request, and asks for a token before anything is written, if other machines can reach it.
"""

import hmac
from collections.abc import Collection

from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_SAFE_METHODS = frozenset(("GET", "HEAD", "OPTIONS"))

# Reading that is sent by POST, because it carries a picture.
_READING_PATHS = frozenset(("/query",))


class Guard:
    """The middleware."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        hosts: Collection[str],
        token: str | None,
        max_bytes: int,
    ) -> None:
        """Guard `app`.

        Args:
            app: the service.
            hosts: the names in the `Host` header that are accepted, without port; empty for all.
            token: must be sent as `Authorization: Bearer TOKEN` with every request that writes;
                None if none is needed.
            max_bytes: the most bytes of a request's body.
        """
        self._app = app
        self._hosts = {host.lower() for host in hosts}
        self._token = token
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        refusal = self._refusal(scope["method"], scope["path"], headers)
        if refusal is None:
            exchange = _Exchange(receive, send, self._max_bytes)
            try:
                await self._app(scope, exchange.receive, exchange.send)
            except _TooLarge:
                if exchange.has_answered:
                    raise
            if exchange.is_refused:
                refusal = self._too_large()
        if refusal is not None:
            code, reason = refusal
            await JSONResponse({"detail": reason}, code)(scope, receive, send)

    def _refusal(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, str] | None:
        """Return status code and reason, or None."""
        host = headers.get("host", "")
        if self._hosts and _name_of(host) not in self._hosts:
            return 421, f"Host: found {host!r:.100}; accepted: {', '.join(sorted(self._hosts))}"
        if method not in _SAFE_METHODS:
            origin = headers.get("origin")
            if origin is not None and origin.partition("://")[2] != host:
                return 403, f"Origin: found {origin!r:.100}; accepted: pages of this service"
            if headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
                return 403, "a request of another site's page; accepted: pages of this service"
            if self._token is not None and path not in _READING_PATHS:
                given = headers.get("authorization", "").removeprefix("Bearer ")
                if not hmac.compare_digest(given.encode(), self._token.encode()):
                    return 401, "found no valid token; accepted: Authorization: Bearer TOKEN"
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > self._max_bytes:
            return self._too_large()
        return None

    def _too_large(self) -> tuple[int, str]:
        return 413, f"a request of too many bytes; accepted: at most {self._max_bytes:,}"


class _TooLarge(Exception):
    """More bytes came than the limit allows."""


class _Exchange:
    """Passes a request's body on, up to a number of bytes, and the answer back.

    Attributes:
        has_answered: whether an answer has begun.
        is_refused: whether too many bytes came before it began. Then the answer is dropped: it is
            what a library makes of `_TooLarge`.
    """

    def __init__(self, receive: Receive, send: Send, max_bytes: int) -> None:
        """Wrap `receive` and `send`."""
        self._receive = receive
        self._send = send
        self._left = max_bytes
        self.has_answered = False
        self.is_refused = False

    async def receive(self) -> Message:
        """Receive the next part of the request."""
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            self.is_refused = not self.has_answered
            raise _TooLarge
        return message

    async def send(self, message: Message) -> None:
        """Send the next part of the answer."""
        if not self.is_refused:
            self.has_answered = True
            await self._send(message)


def _name_of(host: str) -> str:
    """Return a `Host` header without its port, in lower case; IPv6 keeps its brackets."""
    name, colon, port = host.rpartition(":")
    if colon and port.isdigit():
        return name.lower()
    return host.lower()

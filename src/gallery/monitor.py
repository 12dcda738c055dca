"""Counts and times the service's requests for Prometheus, and ends those that take too long."""

import asyncio
import time
from collections.abc import Callable, Mapping

from fastapi.responses import JSONResponse
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_METHODS = frozenset(("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"))


class ServiceMetrics:
    """What `/metrics` reports."""

    def __init__(self) -> None:
        """Start from zero."""
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "tripletboard_requests_total",
            "Requests by route and status",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "tripletboard_request_seconds",
            "Time of a request",
            ["route"],
            registry=self.registry,
        )
        self.verdicts = Counter(
            "tripletboard_verdicts_total",
            "Queries by verdict: known or unknown",
            ["verdict"],
            registry=self.registry,
        )
        self.pictures = Gauge(
            "tripletboard_pictures", "Pictures in the gallery", registry=self.registry
        )


class Monitor:
    """An ASGI middleware: measures each request, limits its time, and adds headers."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: ServiceMetrics,
        max_seconds: float,
        headers_of: Callable[[str], Mapping[str, str]],
    ) -> None:
        """Monitor `app`.

        Args:
            app: the service.
            metrics: take what is measured.
            max_seconds: the longest time of a request; then the answer is 503.
            headers_of: returns what is added to the answer, given the path.
        """
        self._app = app
        self._metrics = metrics
        self._max_seconds = max_seconds
        self._headers_of = headers_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 0
        headers = [
            (name.lower().encode(), value.encode())
            for name, value in self._headers_of(scope["path"]).items()
        ]

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message["headers"], *headers]}
            await send(message)

        try:
            await asyncio.wait_for(self._app(scope, receive, send_with_headers), self._max_seconds)
        except asyncio.TimeoutError:
            if status:  # an answer has begun; the connection is closed
                raise
            late = JSONResponse({"detail": f"took over {self._max_seconds:g} s"}, 503)
            await late(scope, receive, send_with_headers)
        except Exception:
            status = status or 500  # Starlette answers it, outside of this
            raise
        finally:
            route = getattr(scope.get("route"), "path", "other")
            # A client may invent methods, and each name would be kept for ever.
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._metrics.requests.labels(method, route, status).inc()
            self._metrics.seconds.labels(route).observe(time.perf_counter() - started)

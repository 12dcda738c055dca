"""The gallery over HTTP: queries, enrolment, and the page. `serve.py` runs it."""

import asyncio
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from fastapi import FastAPI, File, Form, HTTPException, Query, Response, UploadFile
from fastapi import Path as InPath
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from fastapi_offline import FastAPIOffline
from numpy.typing import NDArray
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from src.data.decode import BadImage
from src.errors import UserError
from src.gallery.answer import Answer
from src.gallery.batching import Batcher
from src.gallery.gallery import DEFAULT_NEIGHBOURS, Gallery
from src.gallery.guard import Guard
from src.gallery.monitor import Monitor, ServiceMetrics
from src.gallery.record import enrolled_name
from src.gallery.refusals import explained, refusals, refused
from src.gallery.sources import GivenPicture, Place, from_file, is_dark, preparation

PAGE = Path(__file__).parent / "page"

MAX_BYTES = 32 << 20
"""The most bytes of a request."""

MAX_SECONDS = 30.0
"""The longest time of a request; then the answer is 503."""

MAX_NEIGHBOURS = 100

_MAX_ID = 2**63 - 1  # what the databases can hold

_PictureId = Annotated[int, InPath(ge=1, le=_MAX_ID)]

# The page and its files come from here alone. Thumbnails are images; `blob:` is the user's picture.
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; "
    "style-src 'self' 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


# Swagger's page starts itself by a script within it. Nothing that users enter stands in that page.
_HEADERS_OF_DOCS = _HEADERS | {
    "Content-Security-Policy": f"{_HEADERS['Content-Security-Policy']}; "
    "script-src 'self' 'unsafe-inline'"
}


def _headers_of(path: str) -> Mapping[str, str]:
    return _HEADERS_OF_DOCS if path == "/docs" else _HEADERS


class _Query(NamedTuple):
    """A query that waits; attributes as arguments of `Gallery.query`."""

    image: NDArray[np.uint8]
    neighbours: int
    far: float | None


def create_app(
    gallery: Gallery,
    *,
    hosts: Collection[str] = (),
    token: str | None = None,
    max_bytes: int = MAX_BYTES,
    max_seconds: float = MAX_SECONDS,
    far: float | None = None,
) -> FastAPI:
    """Return the service as an ASGI application.

    Args:
        gallery: it stays open when the application ends.
        hosts: see `Guard`; empty to accept all.
        token: see `Guard`.
        max_bytes: the most bytes of a request.
        max_seconds: the longest time of a request.
        far: the share of strangers that may be let in, for queries that name none; see
            `Gallery.query`.
    """
    return _Service(gallery, max_seconds, far).app(hosts, token, max_bytes)


class _Service:
    """The routes, and what they share."""

    def __init__(self, gallery: Gallery, max_seconds: float, far: float | None) -> None:
        """Start the threads that decode and embed."""
        self._gallery = gallery
        self._far = far
        self._prepare = preparation(gallery.params, gallery.identity.image_shape)
        self._max_seconds = max_seconds
        self._metrics = ServiceMetrics()
        # As many pictures are decoded at once as there are cores: a large one takes much memory.
        self._decoders = ThreadPoolExecutor(os.cpu_count(), "decode")
        self._readers = ThreadPoolExecutor(4, "read")
        self._writers = ThreadPoolExecutor(4, "write")  # they wait for each other; readers do not
        self._batches: Batcher[_Query, Answer] = Batcher(self._answer)

    def app(self, hosts: Collection[str], token: str | None, max_bytes: int) -> FastAPI:
        """Return the application with all routes."""

        @asynccontextmanager
        async def lifespan(_: FastAPI) -> Any:
            yield
            self._batches.close()
            self._decoders.shutdown()
            self._readers.shutdown()
            self._writers.shutdown()

        app: FastAPI = FastAPIOffline(
            title="Tripletboard",
            summary=f"The gallery of {self._gallery.identity.experiment}",
            redoc_url=None,
            lifespan=lifespan,
        )
        reads, changes = refusals(404), refusals(401, 403, 404)
        corrects = refusals(400, 401, 403, 404)
        png: dict[int | str, dict[str, Any]]
        png = {200: {"description": "the thumbnail", "content": {"image/png": {}}}}
        route = app.add_api_route
        route("/query", self.query, methods=["POST"], responses=refusals(400, 403))
        route("/classes", self.classes, responses=refusals())
        route("/classes/{name:path}/pictures", self.pictures_of, responses=reads)
        route("/classes/{name:path}/pictures", self.enrol, methods=["POST"], responses=corrects)
        route("/classes/{name:path}", self.remove_class, methods=["DELETE"], responses=changes)
        route("/pictures/{picture}", self.remove_picture, methods=["DELETE"], responses=changes)
        route("/pictures/{picture}/class", self.move, methods=["PUT"], responses=corrects)
        route(
            "/pictures/{picture}/thumbnail",
            self.thumbnail,
            response_class=Response,
            responses={**reads, **png},
        )
        route("/calibration", self.calibration, responses=refusals())
        route("/healthz", self.healthz, responses=refusals())
        app.add_api_route("/metrics", self.metrics, include_in_schema=False)
        app.add_api_route("/", self.page, include_in_schema=False)
        app.mount("/page", StaticFiles(directory=PAGE), name="page")
        app.exception_handler(UserError)(refused)
        app.add_middleware(Guard, hosts=hosts, token=token, max_bytes=max_bytes)
        # The last one is the first: it counts what the guard refuses, too.
        app.add_middleware(
            Monitor, metrics=self._metrics, max_seconds=self._max_seconds, headers_of=_headers_of
        )
        return app

    async def query(
        self,
        picture: Annotated[UploadFile, File(description="the picture to name")],
        neighbours: Annotated[int, Form(ge=1, le=MAX_NEIGHBOURS)] = DEFAULT_NEIGHBOURS,
        far: Annotated[float | None, Form(gt=0, lt=1)] = None,
    ) -> dict[str, Any]:
        """Name the class of a picture, or find it unknown."""
        far = self._far if far is None else far
        self._gallery.judge.threshold(far)  # refuse a rate that was not measured
        given = await self._decoded(picture)
        waiting = self._batches.submit(_Query(given.image, neighbours, far))
        with explained():
            answer = await asyncio.wrap_future(waiting)
        self._metrics.verdicts.labels("unknown" if answer.class_name is None else "known").inc()
        return answer.as_json(given.place.name)

    async def classes(self) -> list[dict[str, Any]]:
        """List the classes and their numbers of pictures."""
        found = await self._read(self._gallery.store.classes)
        return [{"class": name, "pictures": count} for name, count in found]

    async def pictures_of(
        self,
        name: str,
        after: Annotated[int, Query(ge=0, le=_MAX_ID)] = 0,
        limit: Annotated[int, Query(ge=1, le=1000)] = 120,
    ) -> list[dict[str, Any]]:
        """List pictures of a class: those enrolled after the picture with id `after`."""
        name = enrolled_name(name)
        snapshot = await self._read(self._gallery.snapshot)
        pictures = snapshot.pictures
        if name not in pictures.class_names:
            raise HTTPException(404, f"no class {name!r:.200}")
        of_class = pictures.labels == pictures.class_names.index(name)
        ids = pictures.ids[of_class & (pictures.ids > after)][:limit].tolist()
        sources = await self._read(self._gallery.store.sources, ids)
        return [{"id": i, "source": sources[i][1]} for i in ids if i in sources]

    async def enrol(
        self,
        name: str,
        picture: Annotated[list[UploadFile], File(description="one or more pictures")],
    ) -> list[dict[str, Any]]:
        """Enrol pictures of a class, which may be new: all of them, or none."""
        name = enrolled_name(name)
        given = [await self._decoded(file, with_thumbnail=True) for file in picture]
        added = await self._written(
            self._gallery.enrol,
            name,
            np.stack([one.image for one in given]),
            [one.thumbnail for one in given],
            [one.place.name for one in given],
        )
        return [{"id": one.id, "is_new": one.is_new, "also_in": list(one.also_in)} for one in added]

    async def remove_class(self, name: str) -> dict[str, int]:
        """Remove a class with all its pictures."""
        name = enrolled_name(name)
        count = await self._written(self._gallery.store.remove_class, name)
        if not count:
            raise HTTPException(404, f"no class {name!r:.200}")
        return {"removed": count}

    async def remove_picture(self, picture: _PictureId) -> dict[str, int]:
        """Remove a picture."""
        if await self._written(self._gallery.store.remove_picture, picture) is None:
            raise HTTPException(404, f"no picture {picture}")
        return {"removed": 1}

    async def move(self, picture: _PictureId, name: Annotated[str, Form()]) -> dict[str, Any]:
        """Move a picture to another class: correct it."""
        name = enrolled_name(name)
        moved = await self._written(self._gallery.store.move, picture, name)
        if moved is None:
            raise HTTPException(404, f"no picture {picture}")
        return {"id": moved.id, "class": moved.class_name}

    async def thumbnail(self, picture: _PictureId) -> Response:
        """Return a picture as PNG."""
        found = await self._read(self._gallery.store.pictures, [picture])
        if not found:
            raise HTTPException(404, f"no picture {picture}")
        # Another gallery at this address has other pictures of the same ids.
        headers = {"Cache-Control": "private, no-store"}
        return Response(found[0].thumbnail, media_type="image/png", headers=headers)

    async def calibration(self) -> dict[str, Any]:
        """Return the thresholds, and the distances of known and unknown pictures."""
        snapshot = await self._read(self._gallery.snapshot)
        some = await self._read(self._gallery.store.pictures, snapshot.pictures.ids[:16].tolist())
        return {
            "experiment": self._gallery.identity.experiment,
            "is_dark": is_dark(self._gallery.identity.image_shape, [one.image for one in some]),
            **self._gallery.judge.calibration.to_json(),
        }

    async def healthz(self) -> dict[str, Any]:
        """Tell that the service answers, and of which network the gallery is."""
        identity = self._gallery.identity
        snapshot = await self._read(self._gallery.snapshot)
        return {
            "status": "ok",
            "version": snapshot.pictures.version,
            "checkpoint": identity.checkpoint,
        }

    async def metrics(self) -> Response:
        """Return counters in the text format of Prometheus."""
        snapshot = await self._read(self._gallery.snapshot)
        self._metrics.pictures.set(len(snapshot))
        return Response(generate_latest(self._metrics.registry), media_type=CONTENT_TYPE_LATEST)

    async def page(self) -> FileResponse:
        """Return the page."""
        return FileResponse(PAGE / "index.html")

    def _answer(self, queries: Sequence[_Query]) -> list[Answer]:
        """Answer queries that came together, embedded as one batch."""
        embeddings = self._gallery.embed(np.stack([query.image for query in queries]))
        answers: list[Answer | None] = [None] * len(queries)
        for neighbours, far in {(query.neighbours, query.far) for query in queries}:
            rows = [
                row
                for row, query in enumerate(queries)
                if (query.neighbours, query.far) == (neighbours, far)
            ]
            found = self._gallery.answer(embeddings[rows], neighbours=neighbours, far=far)
            for row, answer in zip(rows, found, strict=True):
                answers[row] = answer
        return [answer for answer in answers if answer is not None]

    async def _decoded(self, file: UploadFile, *, with_thumbnail: bool = False) -> GivenPicture:
        """Decode an uploaded picture in a thread."""
        place = Place(Path(file.filename or "picture"))
        decode = partial(from_file, file.file, place, self._prepare, with_thumbnail=with_thumbnail)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._decoders, decode)
        except BadImage as error:
            raise HTTPException(422, f"{place.name}: {error}; accepted: a picture") from None

    async def _read(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function that reads the gallery, in a thread."""
        with explained():
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._readers, function, *arguments)

    async def _written(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function that changes the gallery, in a thread."""
        with explained():
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._writers, function, *arguments)

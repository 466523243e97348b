"""The FastAPI application: a project behind a door, with its calls and its page."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import metadata
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from vizsla.errors import VizslaError
from vizsla.project import Project
from vizsla.web import problems, state, wire
from vizsla.web.api import router
from vizsla.web.door import Door, Guard, is_token, set_cookie
from vizsla.web.glance import Glance
from vizsla.web.metrics import MEDIA_TYPE, Metrics
from vizsla.web.observed import Observed
from vizsla.web.pictures import Pictures
from vizsla.web.watch import Watch

STATIC = Path(__file__).parent / "static"


def create_app(project: Project, door: Door | None = None) -> FastAPI:
    """The page and the API of one project. The folder is scanned once the server runs."""
    health = wire.Health(version=metadata.version("vizsla"))
    door = door or Door()
    pictures = Pictures(project, signed=bool(door.pictures_from))
    glance = Glance(project)
    watch = Watch(project, pictures, glance, state.news)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        watch.rescan()
        heart = asyncio.create_task(watch.run())
        yield
        heart.cancel()

    app = FastAPI(
        title="Vizsla",
        version=metadata.version("vizsla"),
        description="Active learning for image classification: the labelling page's API.",
        docs_url=None,  # its page asks a content network for scripts
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.project, app.state.watch, app.state.pictures = project, watch, pictures
    app.state.door, app.state.glance = door, glance
    app.include_router(router)
    app.add_middleware(Guard, door=door, store=project.store, wrote=glance.wrote)
    metrics = Metrics(project, watch.listeners)
    app.add_middleware(Observed, metrics=metrics)  # the last one added is the first to be passed
    explain_errors(app)

    @app.get("/healthz")
    async def healthz() -> wire.Health:
        """Whether the server lives; asks nothing of the database."""
        return health

    @app.get("/readyz", responses={503: {"model": wire.Problem, "description": "The database is away"}})
    def readyz() -> wire.Health:
        """Whether the server can serve: it reaches the database."""
        project.store.pulse()
        return health

    @app.get("/metrics", include_in_schema=False)
    def figures() -> Response:
        return Response(metrics.text(), media_type=MEDIA_TYPE)

    @app.get("/", include_in_schema=False)
    def page(token: str | None = None) -> Response:
        if token and is_token(token) and project.store.who(token):
            return RedirectResponse("/", 303, {"Set-Cookie": set_cookie(app.state.door, token)})
        return FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})

    app.mount("/static", _Fresh(directory=STATIC, check_dir=False), name="static")
    return app


def explain_errors(app: FastAPI) -> None:
    """Have an application say what went wrong as `{"detail": text}`, with the mend."""
    app.add_exception_handler(VizslaError, _explain)
    app.add_exception_handler(OSError, _explain_disk)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _plain)


class _Fresh(StaticFiles):
    """Files that browsers ask about each time, so that an upgrade is seen at once."""

    def file_response(self, *args: object, **options: object) -> FileResponse:
        response = super().file_response(*args, **options)  # type: ignore[arg-type]
        response.headers["Cache-Control"] = "no-cache"
        return response  # type: ignore[return-value]


async def _explain(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, VizslaError)
    status, headers = problems.status_of(error)
    return JSONResponse({"detail": wire.readable(str(error))}, status, headers)


async def _explain_disk(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, OSError)
    if (known := problems.known(error)) is None:
        raise error
    return await _explain(request, known)


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    """What does not fit, in words."""
    assert isinstance(error, RequestValidationError)
    broken = any(one["type"] == "json_invalid" for one in error.errors())
    said = [f"{'.'.join(map(str, one['loc'][1:])) or 'the body'}: {one['msg']}" for one in error.errors()[:5]]
    return JSONResponse({"detail": wire.readable("; ".join(said))}, 400 if broken else 422)


async def _plain(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return JSONResponse({"detail": error.detail}, error.status_code, error.headers)

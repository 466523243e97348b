"""The FastAPI application that a Label Studio takes for its machine-learning backend. See docs/label-studio.md."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from importlib import metadata
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from vizsla.errors import UserError
from vizsla.interop import label_studio_ml as wire
from vizsla.project import Project
from vizsla.web.app import explain_errors
from vizsla.web.bridge import Bridge
from vizsla.web.door import Door, Guard

PORT = 9090
"""Where Label Studio's own documentation has such a backend listen."""

_LARGEST_BODY = 256 * 2**20  # tasks that were imported or selected together come in one body: a kilobyte each

_log = logging.getLogger("vizsla")

router = APIRouter()


def create_backend(project: Project, door: Door | None = None) -> FastAPI:
    """The backend of one project. The folder is scanned once the server runs."""
    door = replace(door or Door(), guarded="/", cookie="", largest_body=_LARGEST_BODY)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.bridge = Bridge(project)
        yield
        app.state.bridge.close()

    app = FastAPI(
        title="Vizsla",
        version=metadata.version("vizsla"),
        description="A machine-learning backend for Label Studio.",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.include_router(router)
    app.add_middleware(Guard, door=door, store=project.store)
    explain_errors(app)
    return app


def _bridge(request: Request) -> Bridge:
    bridge: Bridge = request.app.state.bridge
    return bridge


There = Annotated[Bridge, Depends(_bridge)]


class Health(BaseModel):
    status: str = "UP"
    model_class: str = "Vizsla"


class SetupIn(BaseModel):
    project: Any
    schema_: str = Field(alias="schema")
    hostname: str | None = None
    access_token: str | None = None


class SetupOut(BaseModel):
    model_version: str


class PredictIn(BaseModel):
    tasks: list[dict[str, Any]]
    project: Any
    label_config: str | None = None


class PredictOut(BaseModel):
    results: list[dict[str, Any]]


class Versions(BaseModel):
    versions: list[str]


@router.get("/")
@router.get("/health")
def health() -> Health:
    """Whether the backend lives."""
    return Health()


@router.post("/setup")
def setup(body: SetupIn, bridge: There) -> SetupOut:
    """A project of Label Studio makes itself known, again and again."""
    try:
        version = bridge.setup(body.project, body.schema_, body.hostname or "", body.access_token or "")
    except UserError as error:
        _log.warning("Label Studio: %s", error)  # it shows its user only the status
        raise
    return SetupOut(model_version=version)


@router.post("/predict")
def predict(body: PredictIn, bridge: There) -> PredictOut:
    """A prediction for each task, in order."""
    return PredictOut(results=bridge.predict(body.project, body.label_config, body.tasks))


@router.get("/versions")
def versions(bridge: There) -> Versions:
    """What the newest predictions are called."""
    return Versions(versions=[bridge.version()])


@router.post("/webhook", status_code=201)
def webhook(body: dict[str, Any], bridge: There) -> JSONResponse:
    """Something has happened in Label Studio: 201 where it concerns us."""
    event = wire.event_of(body)
    if event is None:
        return JSONResponse({"status": "Unknown event"}, 200)
    bridge.take(event)
    return JSONResponse({"status": "ok"}, 201)


@router.post("/train", status_code=201)
def train(body: dict[str, Any], bridge: There) -> JSONResponse:
    """The webhook by its old name. It may bring whole tasks with their annotations, as it did then."""
    if "action" in body:
        return webhook(body, bridge)
    origin = wire.origin_of(body.get("project"))
    bridge.train(origin, body.get("label_config"), wire.objects(body.get("annotations")))
    return JSONResponse({"status": "ok"}, 201)

"""One annotator of many: asks for images, looks, answers, and listens to the server's news as the page does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic, perf_counter
from typing import Any
from uuid import uuid4

IN_HAND = 5
"""Images that a page holds."""
LOOK_SECONDS = 4.0
"""A page asks how the project stands when it opens and when a model is swapped; here so often, to have figures."""


@dataclass
class Wait:
    """How long a call took."""

    call: str
    ms: float
    training: bool


class Connection:
    """HTTP/1.1 on an open connection, as lean as it gets: the clients share the cores with what they measure."""

    def __init__(self, host: str, port: int, token: str) -> None:
        self.host, self.port, self.token = host, port, token

    async def open(self) -> None:
        self.reader, self.writer = await asyncio.open_connection(self.host, self.port)

    async def send(self, method: str, path: str, body: object = None) -> tuple[int, dict[str, str]]:
        content = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\nAuthorization: Bearer {self.token}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        self.writer.write(head.encode() + content)
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        fields = (line.partition(": ") for line in lines[1:] if line)
        return int(lines[0].split()[1]), {name.lower(): value for name, _, value in fields}

    async def call(self, method: str, path: str, body: object = None) -> tuple[int, bytes]:
        status, headers = await self.send(method, path, body)
        return status, await self.reader.readexactly(int(headers["content-length"]))

    async def lines(self) -> Any:
        """The lines of a stream that never ends."""
        while True:
            size = int(await self.reader.readline(), 16)
            for line in (await self.reader.readexactly(size + 2)).splitlines():
                yield line

    def close(self) -> None:
        self.writer.close()


@dataclass
class Annotator:
    """Labels through one server until told to stop, an image every `pace` seconds."""

    host: str
    port: int
    token: str
    pace: float
    goes_on: Callable[[], bool]
    """Asked before each answer; one that says yes has counted it."""
    waits: list[Wait] = field(default_factory=list)
    given: list[int] = field(default_factory=list)
    """Images as they were handed out."""
    acknowledged: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Key of an answer → its image, and the id that the server gave it."""
    heard: int = 0
    """News that the server sent."""
    training: bool = False

    async def work(self, delay: float) -> None:
        """Start after so many seconds, for people do not come all at once."""
        await asyncio.sleep(delay)
        self.asking, self.looking, self.hearing = (self._connection() for _ in range(3))
        await asyncio.gather(*(one.open() for one in (self.asking, self.looking, self.hearing)))
        others = [asyncio.create_task(self._listen()), asyncio.create_task(self._look())]
        try:
            await self._label()
        finally:
            for task in others:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            for one in (self.asking, self.looking, self.hearing):
                one.close()

    def _connection(self) -> Connection:
        return Connection(self.host, self.port, self.token)

    async def _label(self) -> None:
        in_hand: list[dict[str, Any]] = []
        due = monotonic()
        while True:
            if len(in_hand) < 3:
                in_hand += await self._claim({item["item_id"] for item in in_hand})
                if not in_hand:
                    return
            due = max(due + self.pace, monotonic())  # who was held up does not hurry afterwards
            await asyncio.sleep(max(0.0, due - monotonic()))
            if not self.goes_on():
                return
            await self._answer(in_hand.pop(0))

    async def _claim(self, held: set[int]) -> list[dict[str, Any]]:
        found = json.loads(await self._timed("queue", self.asking, "POST", "/api/queue", {"n": IN_HAND}))[
            "items"
        ]
        new = [item for item in found if item["item_id"] not in held]
        self.given += [item["item_id"] for item in new]
        for item in new:
            await self._timed("image", self.asking, "GET", item["image_url"])
        return new

    async def _answer(self, item: dict[str, Any]) -> None:
        label = item["file_name"].rpartition("-")[2].partition(".")[0]
        key = str(uuid4())
        body = {"item_id": item["item_id"], "label": label, "key": key, "lease_id": item["lease_id"]}
        reply = json.loads(await self._timed("label", self.asking, "POST", "/api/labels", body))
        self.acknowledged[key] = item["item_id"], reply["label_id"]

    async def _look(self) -> None:
        while True:
            await self._timed("counts", self.looking, "GET", "/api/project")
            await asyncio.sleep(LOOK_SECONDS)

    async def _listen(self) -> None:
        await self.hearing.send("GET", "/api/events")
        event = b""
        async for line in self.hearing.lines():
            if line.startswith(b"event: "):
                event = line[7:]
            elif line.startswith(b"data: "):
                self.heard += 1
                if event == b"training":
                    self.training = json.loads(line[6:])["state"] == "training"

    async def _timed(self, name: str, way: Connection, method: str, path: str, body: object = None) -> bytes:
        began = perf_counter()
        status, content = await way.call(method, path, body)
        self.waits.append(Wait(name, 1000 * (perf_counter() - began), self.training))
        assert status < 400, (path, status, content)
        return content

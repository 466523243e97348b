"""The engine of many machines: Ray tasks for light work, a Ray Data pipeline over a pool of actors for heavy work.

Ray does what engines are for: placing work, moving it away from what has died, starting workers anew. Nothing here
keeps a list of machines. Machines share a file system; only shards' descriptions and results go over the network.
"""

from __future__ import annotations

import logging
import os
import pickle
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from vizsla.engine.base import Engine, R, S
from vizsla.errors import BadOption, DeadlyWork, Unreachable, VizslaError

_AHEAD = 2  # tasks per CPU that are handed over, so that none waits for the next
_PATIENCE = 10  # seconds for a cluster to answer the door
_RETRIES = 20
"""Deaths of its worker that a task survives: more, and it is the task that kills them."""
_DEATHS = 5
"""The same of work that takes long."""


class RayEngine(Engine):
    """A Ray cluster: the one at the address, or one on this machine alone that ends with the engine.

    Args: address: default: `$RAY_ADDRESS`, else one's own. cpus: of one's own cluster; default: all.
    """

    name = "ray"

    def __init__(self, address: str | None = None, *, cpus: int | None = None) -> None:
        self._address = address
        self._cpus = cpus
        self._started = False

    def __enter__(self) -> Self:
        ray = _ray()
        if not ray.is_initialized():
            self._connect(ray)
            self._started = True
        return self

    def _connect(self, ray: Any) -> None:
        address = self._address or os.environ.get("RAY_ADDRESS") or "local"
        own: dict[str, Any] = (
            {"num_cpus": self._cpus, "include_dashboard": False} if address == "local" else {}
        )
        try:
            _knock(address)
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **own)
        except Exception as error:  # of several unrelated kinds
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise Unreachable(
                f"cannot reach or start Ray at {address} ({reason[0].rstrip('.')}). Start a cluster with "
                "`ray start --head` and give its --address, with RAY_AUTH_MODE=token where it has one; or leave "
                "that out for one on this machine."
            ) from None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._started:
            _ray().shutdown()
            self._started = False

    def _resource(self, kind: str) -> int:
        return int(_ray().cluster_resources().get(kind, 0))

    @property
    def workers(self) -> int:
        return max(1, self._resource("CPU"))

    def map(self, work: Callable[[S], R], shards: Sequence[S]) -> Iterator[tuple[int, R]]:
        ray = _ray()
        shared = ray.put(work)  # once, however many tasks there are
        run = ray.remote(_call).options(max_retries=_RETRIES)
        rest = iter(enumerate(shards))
        running = {run.remote(shared, shard): place for place, shard in islice(rest, _AHEAD * self.workers)}
        try:
            while running:
                (done, *_), _ = ray.wait(list(running), num_returns=1)
                place = running.pop(done)
                running |= {run.remote(shared, shard): place for place, shard in islice(rest, 1)}
                yield place, _opened(_result(ray, done, place))
        finally:
            for task in running:
                ray.cancel(task)

    def map_prepared(
        self, make: Callable[[], Callable[[S], R]], shards: Sequence[S]
    ) -> Iterator[tuple[int, R]]:
        if not shards:
            return
        data = _ray_data()
        items = [{"place": place, "shard": pickle.dumps(shard)} for place, shard in enumerate(shards)]
        share = self._share(len(items))
        with _tally() as tally:
            results = self._pool(data, items, (make, share.cpus, tally, _DEATHS), share)
            deadly = []
            for row in results.iter_rows():
                found = pickle.loads(row["value"])
                if isinstance(found, _Deadly):
                    deadly.append(row["place"])
                else:
                    yield row["place"], _opened(found)
        if deadly:
            raise _deadly(sorted(deadly), _DEATHS)

    @staticmethod
    def _pool(data: Any, items: Sequence[dict[str, Any]], made_of: tuple[Any, ...], share: _Share) -> Any:
        """The pipeline: each item through an actor of the pool."""
        return data.from_items(items, override_num_blocks=len(items)).map(
            _Worker,
            fn_constructor_args=made_of,
            num_cpus=share.cpus,
            num_gpus=share.gpus,
            # From 1 on: a pool of a fixed size that no longer fits, because a machine is gone, would wait forever.
            compute=data.ActorPoolStrategy(min_size=1, max_size=share.workers),
        )

    def _share(self, shards: int) -> _Share:
        """A GPU for each worker where there are any, with as many CPUs as come to it; else one CPU."""
        cpus, gpus = self._resource("CPU"), self._resource("GPU")
        workers = min(shards, gpus or max(1, cpus))
        return _Share(workers, max(1, cpus // (gpus + 1)) if gpus else 1, min(gpus, 1))


@dataclass(frozen=True)
class _Share:
    workers: int
    cpus: int
    """Of each worker."""
    gpus: int


class _Worker:
    """An actor of the pool."""

    def __init__(self, make: Callable[[], Callable[[Any], Any]], cpus: int, tally: Any, deaths: int) -> None:
        self._tally, self._deaths = tally, deaths
        os.environ["LOKY_MAX_CPU_COUNT"] = str(cpus)  # what joblib says, and so how many threads are started
        self._make = make
        self._work: Callable[[Any], Any] | None = None

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        place, found = row["place"], _Deadly()
        if _ray().get(self._tally.begin.remote(place)) <= self._deaths:
            found = _call(self._prepared, pickle.loads(row["shard"]))
            self._tally.end.remote(place)
        return {"place": place, "value": pickle.dumps(found)}

    def _prepared(self, shard: Any) -> Any:
        if self._work is None:  # not in the constructor: what is raised there never gets to the caller
            self._work = self._make()
        return self._work(shard)


class _Tally:
    """An actor that knows how often work on each shard was begun and not ended. Ray Data itself would try for ever."""

    def __init__(self) -> None:
        self._begun: Counter[int] = Counter()

    def begin(self, place: int) -> int:
        """How often it was begun before, and no end came of it."""
        self._begun[place] += 1
        return self._begun[place] - 1

    def end(self, place: int) -> None:
        self._begun[place] = 0


@contextmanager
def _tally() -> Iterator[Any]:
    """One that starts anew, with nothing counted, where its machine is lost."""
    ray = _ray()
    tally = ray.remote(_Tally).options(num_cpus=0, max_restarts=-1, max_task_retries=-1).remote()
    try:
        yield tally
    finally:
        if ray.is_initialized():  # else it has ended with the cluster
            ray.kill(tally)


class _Deadly:
    """The result of work that was not tried again."""


def _deadly(places: Sequence[int], deaths: int) -> DeadlyWork:
    which = ", ".join(str(place + 1) for place in places[:5]) + (", …" if len(places) > 5 else "")
    return DeadlyWork(
        f"work on shard {which} has killed its worker {deaths + 1} times. A file that crashes its decoder "
        "does that, and memory that runs out.",
        tuple(places),
    )


def _result(ray: Any, done: Any, place: int) -> Any:
    """What a task returned. Raises DeadlyWork where it never did."""
    lost = ray.exceptions
    try:
        return ray.get(done)
    except (lost.WorkerCrashedError, lost.OutOfMemoryError, lost.NodeDiedError):
        raise _deadly([place], _RETRIES) from None


@dataclass(frozen=True)
class _Failed:
    """A deliberate exception on its way back: Ray would wrap it in a traceback."""

    error: VizslaError


def _call(work: Callable[[Any], Any], shard: Any) -> Any:
    try:
        return work(shard)
    except VizslaError as error:
        return _Failed(error)


def _opened(result: Any) -> Any:
    if isinstance(result, _Failed):
        raise result.error
    return result


def _knock(address: str) -> None:
    """Raise OSError where nobody listens: Ray would try for minutes, and fill the terminal with it."""
    parts = urlsplit(address if "://" in address else f"//{address}")
    if parts.port is not None:
        socket.create_connection((parts.hostname or "", parts.port), timeout=_PATIENCE).close()


def _ray() -> Any:
    """Ray, which sends no statistics about us anywhere, and whose inner workings write to its own logs only."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")  # deaths of workers, told on the standard output
    try:
        import ray
    except ModuleNotFoundError:
        raise BadOption("--engine ray needs Ray. Run: pip install 'vizsla[ray]'.") from None
    return ray


def _ray_data() -> Any:
    """Ray Data, which leaves the terminal to us."""
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    return ray.data

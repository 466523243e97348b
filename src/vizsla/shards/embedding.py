"""Images to a folder of shards with any engine: what is finished is not done again, and no row is there twice."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from vizsla.caching import explain_write_errors
from vizsla.data.sources import Source, source_of
from vizsla.engine import Engine
from vizsla.errors import BadOption, BadWeights, NoImages
from vizsla.models import embed as features
from vizsla.models.backbones import DEFAULT, PRECISIONS, load_backbone
from vizsla.shards.folder import Plan, Record, ShardFolder
from vizsla.types import Progress

IMAGES_PER_SHARD = 8192
"""20 MB of features of 1,280 dimensions; what a worker that dies takes with it, at the most."""


def embed_shards(
    source: Source,
    out: str | Path,
    engine: Engine,
    *,
    backbone: str = DEFAULT,
    image_size: int | None = None,
    precision: str = PRECISIONS[0],
    shard: int = IMAGES_PER_SHARD,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Features of every readable image, in shards of so many images sorted by name.

    Called again after it died, it goes on: shards whose files have their checksums are not computed again.

    Args:    source, out: both must be reached by all machines of the engine under the same address.
             progress: called with (images done, images in all).
    Returns: the manifest, as it lies in the folder.
    Raises:  NoImages when none can be read; BadOption where `out` holds another embedding, or somebody else is at it;
             BadWeights where a machine has another network.
    """
    out = Path(out).absolute()
    network = load_backbone(backbone, image_size=image_size, precision=precision)
    names = source.names()
    digest = hashlib.sha256("\n".join(names).encode("utf-8", "surrogateescape")).hexdigest()
    plan = Plan(
        source.address, backbone, image_size, precision, network.key, network.dim, len(names), digest, shard
    )
    folder = ShardFolder(out)
    with _alone(folder):
        folder.begin(plan, names)
        records = dict(_finish(plan, folder, engine, progress))
        ordered = [records[place] for place in range(plan.shards)]
        if not sum(record.rows for record in ordered):
            name, reason = next(iter(ordered[0].unreadable.items()))
            raise NoImages(
                f"none of the {len(names)} images in {source.address} can be read; {name}: {reason} Replace the files, "
                "or give another folder."
            )
        folder.finish(plan, ordered)
    return folder.manifest()


@contextmanager
def _alone(folder: ShardFolder) -> Iterator[None]:
    """Hold the folder's lock: two at once would do everything twice."""
    with explain_write_errors(folder.root):
        (folder.root / "shards").mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.root / "lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise BadOption(
            f"another embedding is writing to {folder.root}. Wait for it, or choose another --out."
        ) from None
    try:
        yield
    finally:
        lock.release()


def _finish(
    plan: Plan, folder: ShardFolder, engine: Engine, progress: Progress | None
) -> Iterator[tuple[int, Record]]:
    """Every shard with its record: those that are there, then those that are computed."""
    done, todo = 0, []

    def tell(shard: int) -> None:
        nonlocal done
        done += min(plan.shard, plan.images - shard * plan.shard)
        if progress:
            progress(done, plan.images)

    for shard, record in engine.map(folder.record, range(plan.shards)):
        if record is None:
            todo.append(shard)
        else:
            tell(shard)
            yield shard, record
    more = plan.shard * len(todo) // engine.workers
    make = partial(Embedder, plan, folder, more)
    for place, record in engine.map_prepared(make, sorted(todo)):
        tell(record.shard)
        yield sorted(todo)[place], record


class Embedder:
    """Computes one shard after another with a network that is loaded once."""

    def __init__(self, plan: Plan, folder: ShardFolder, more: int) -> None:
        self.plan, self.folder = plan, folder
        self.source = source_of(plan.source)  # by its address: a worker is elsewhere
        self._network = load_backbone(plan.backbone, image_size=plan.image_size, precision=plan.precision)
        if self._network.key != plan.key:
            raise BadWeights(
                f"backbone {plan.backbone} is another network on this machine than where the work was planned. "
                "Install the same versions of Vizsla and of the weights everywhere."
            )
        self._engine = features.Engine(self._network)
        self._more = more

    def __call__(self, shard: int) -> Record:
        names = self.folder.names(shard)
        self._more = max(0, self._more - len(names))
        with TemporaryDirectory() as scratch:
            store = features.VectorStore(Path(scratch) / self.plan.key, self.plan.dim)
            found = features.embed_files(self.source, names, self._engine, store, more=self._more)
            rows = np.flatnonzero(found.rows >= 0)
            vectors = np.array(store.read(found.rows[rows]))
        return self.folder.write(
            shard,
            vectors,
            [names[row] for row in rows],
            [(found.shas[row] or b"").hex() for row in rows],
            {names[place]: reason for place, reason in sorted(found.reasons.items())},
        )

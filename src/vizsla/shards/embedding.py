"""Images to a folder of shards with any engine: what is finished is not done again, and no row is there twice."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from vizsla.data.sources import Source
from vizsla.engine import Engine
from vizsla.errors import DeadlyWork, NoImages
from vizsla.models.backbones import DEFAULT, PRECISIONS, load_backbone
from vizsla.models.elsewhere import Embedder, Order
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

    Args:    source, out: both must be reached by all machines of the engine under the same address; `out` may be a URL.
             progress: called with (images done, images in all).
    Returns: the manifest, as it lies in the folder.
    Raises:  NoImages when none can be read; BadOption where `out` holds another embedding, or somebody else is at it;
             BadWeights where a machine has another network.
    """
    network = load_backbone(backbone, image_size=image_size, precision=precision)
    names = source.names()
    digest = hashlib.sha256("\n".join(names).encode("utf-8", "surrogateescape")).hexdigest()
    plan = Plan(
        source.address, backbone, image_size, precision, network.key, network.dim, len(names), digest, shard
    )
    folder = ShardFolder(out)
    with folder.place.alone():
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
    todo.sort()
    more = plan.shard * len(todo) // engine.workers
    make = partial(_make, plan, folder, more)
    try:
        for place, record in engine.map_prepared(make, todo):
            tell(record.shard)
            yield todo[place], record
    except DeadlyWork as error:
        raise _named(error, [todo[place] for place in error.places], folder) from None


def _named(error: DeadlyWork, shards: Sequence[int], folder: ShardFolder) -> DeadlyWork:
    """The same with the images that it is about."""
    names = folder.names(shards[0])
    return DeadlyWork(
        f"{error} That is shard {', '.join(map(str, shards))} of {folder.place.address}; all others are done. "
        f"The images of {shards[0]} go from {names[0]} to {names[-1]}; a smaller --shard with another --out tells more "
        "closely. Empty the file, and the same command leaves it out and goes on.",
        tuple(shards),
    )


@dataclass(frozen=True)
class _Work:
    """Work on a shard: compute it, and write it down."""

    embedder: Embedder
    folder: ShardFolder

    def __call__(self, shard: int) -> Record:
        names = self.folder.names(shard)
        found = self.embedder(names)
        return self.folder.write(
            shard,
            found.vectors,
            [names[place] for place in found.readable],
            [(found.shas[place] or b"").hex() for place in found.readable],
            {names[place]: reason for place, reason in sorted(found.reasons.items())},
        )


def _make(plan: Plan, folder: ShardFolder, more: int) -> _Work:
    order = Order(plan.source, plan.backbone, plan.image_size, plan.precision, plan.key)
    return _Work(Embedder(order, more), folder)

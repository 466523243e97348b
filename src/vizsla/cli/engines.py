"""What commands do on an engine, with pools that lie in shards; and the options that choose an engine."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import click

from vizsla.cli import documents
from vizsla.cli.base import bars
from vizsla.engine import ENGINES, engine_named
from vizsla.errors import BadOption

if TYPE_CHECKING:
    import numpy as np

    from vizsla.cli.places import Place
    from vizsla.data.sources import Source
    from vizsla.project import Project
    from vizsla.shards.pool import Shards


def engine_options(command: Callable[..., None]) -> Callable[..., None]:
    """--engine and --address."""
    address = click.option(
        "--address",
        metavar="HOST:PORT",
        help="Of a running Ray cluster; default: $RAY_ADDRESS, else one on this machine for the time being.",
    )
    engine = click.option(
        "--engine",
        type=click.Choice(ENGINES),
        default="local",
        show_default=True,
        help="ray: on many machines, with vizsla[ray].",
    )
    return engine(address(command))


TABLES = (".npy", ".npz", ".parquet")
"""Endings of files of features; a name without one means a folder of shards."""


def is_sharded(file: Place | None, engine: str) -> bool:
    """Whether a pool is read shard by shard: a folder always is, a file where an engine is to share it out."""
    return file is not None and (engine != "local" or _is_folder(file))


def _is_folder(place: Place) -> bool:
    """Of a URL its ending tells: a bucket knows no folders."""
    return place.is_dir() if isinstance(place, Path) else PurePath(place).suffix not in TABLES


def embed_to_shards(
    source: Source,
    out: Place | None,
    *,
    engine: str,
    address: str | None,
    shard: int,
    as_json: bool,
    **network: Any,
) -> None:
    """Embed images into a folder of shards and say what was done."""
    from vizsla.shards.embedding import embed_shards
    from vizsla.shards.folder import ShardFolder

    if out is None or PurePath(out).suffix in TABLES:
        raise BadOption(
            f"--engine {engine} writes shards into a folder that its machines share, or a bucket. "
            "Give --out FOLDER or --out URL."
        )
    if shard < 1:
        raise BadOption(f"--shard is a number of images, 1 or more, not {shard}.")
    began = time.monotonic()
    with engine_named(engine, address) as running, bars() as (embedding, _):
        manifest = embed_shards(source, out, running, shard=shard, progress=embedding, **network)
    seconds, unreadable = time.monotonic() - began, ShardFolder(out).unreadable()
    if as_json:
        documents.show(
            {
                "images": manifest["rows"],
                "features": manifest["dim"],
                "unreadable": unreadable,
                "seconds": seconds,
                "engine": engine,
                "shards": len(manifest["shards"]),
                "out": out,
            }
        )
        return
    click.echo(
        f"{manifest['rows']:,} images, {manifest['dim']} features each, in {len(manifest['shards']):,} shards, "
        f"in {seconds:.1f} s\n  {out}"
    )
    for name, reason in list(unreadable.items())[:10]:
        click.echo(f"left out: {name}: {reason}", err=True)
    if len(unreadable) > 10:
        click.echo(f"left out: {len(unreadable) - 10:,} more", err=True)


def pool_at(path: Place) -> Shards:
    """The rows of a folder of shards, or of one .npy file on a disk."""
    from vizsla.shards.folder import ShardFolder
    from vizsla.shards.pool import of_file

    if _is_folder(path):
        return ShardFolder(path).pool()
    if not isinstance(path, Path):
        raise BadOption(
            f"an engine does not share out one file of a bucket, {path}. Give the folder that vizsla embed "
            "--out URL wrote, or leave out --engine."
        )
    return of_file(path)


def select_from_shards(
    strategy: str, path: Place, *, engine: str, address: str | None, as_json: bool, **options: Any
) -> None:
    """Print the rows of a sharded pool to label next."""
    from vizsla.shards.choosing import select_shards

    for name in ("probs", "pool_size"):
        if options.pop(name):
            raise BadOption(
                f"--{name.replace('_', '-')} is for arrays in one file on this machine. Leave it out with shards: "
                "probabilities are made of --labelled and --labels."
            )
    pool = pool_at(path)
    with engine_named(engine, address) as running:
        rows = select_shards(strategy, pool, running, **options).tolist()
    click.echo(json.dumps(rows) if as_json else "\n".join(map(str, rows)))


def query_shards(
    project: Project, path: Place, n: int, *, engine: str, address: str | None, seed: int, as_json: bool
) -> None:
    """Print the images of a sharded pool whose labels would help a project most."""
    from vizsla.shards.choosing import select_shards
    from vizsla.shards.folder import ShardFolder
    from vizsla.shards.names import ids_of, names_at

    pool = ShardFolder(path).pool()
    answers = {one.path: one for one in project.store.labels() if one.path is not None}
    with engine_named(engine, address) as running:
        ids = ids_of(pool, answers, running)
        labelled = {name: row for name, row in ids.items() if answers[name].status == "labelled"}
        strategy = project.settings.strategy
        rows = select_shards(
            strategy,
            pool,
            running,
            labelled=_rows(labelled),
            labels=[answers[name].label for name in labelled],
            left_out=_rows({name: row for name, row in ids.items() if name not in labelled}),
            n=n,
            seed=seed,
        )
    images = names_at(pool, rows)
    if as_json:
        documents.show({"images": [{"file_name": name, "reason": strategy} for name in images]})
    else:
        click.echo("\n".join(f"{name}\t{strategy}" for name in images))


def _rows(ids: Mapping[str, int]) -> np.ndarray:
    import numpy as np

    return np.fromiter(ids.values(), np.int64, len(ids))

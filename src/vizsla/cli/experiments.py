"""Commands that measure query strategies, and the one that works on plain arrays."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import click

from vizsla.cli import completing, documents
from vizsla.cli.base import (
    backbone,
    bars,
    cli,
    complain,
    log_option,
    names,
    pool_size,
    precision,
    splits_option,
)
from vizsla.cli.documents import json_option
from vizsla.cli.engines import TABLES, engine_options, is_sharded
from vizsla.cli.places import SOURCES, place, settled
from vizsla.errors import BadOption

if TYPE_CHECKING:
    from vizsla.cli.places import Place


@cli.command(epilog=SOURCES)
@click.argument("images", type=place, metavar="IMAGES")
@click.option(
    "--strategies",
    default="random,margin,auto",
    show_default=True,
    callback=names,
    metavar="A,B,…",
    shell_complete=completing.strategies,
)
@click.option(
    "--seeds", default=10, show_default=True, help="Repetitions with other splits and first labels."
)
@click.option(
    "--initial",
    default=20,
    show_default=True,
    help="Random labels to start from; 0: the strategy starts by itself.",
)
@click.option("--batch", default=20, show_default=True, help="Labels per round.")
@click.option("--budget", default=300, show_default=True, help="Labels in all.")
@click.option(
    "--random-budget",
    type=int,
    metavar="N",
    help="Labels of the random run, the ruler; default: twice the budget.",
)
@click.option(
    "--random-runs",
    default=1,
    show_default=True,
    metavar="N",
    help="Independent runs of random per seed; their mean is the ruler of the never-lose gate.",
)
@click.option(
    "--test",
    type=place,
    metavar="IMAGES",
    help="Test images; default: 30% held out for each seed.",
)
@splits_option
@backbone
@click.option(
    "--image-size", type=int, metavar="PX", help="Side of the network's input; default: the backbone's own."
)
@precision
@click.option(
    "--head",
    default="blend",
    show_default=True,
    metavar="NAME",
    shell_complete=completing.head,
    help="Classifier on the frozen features: blend, logistic, lda or knn.",
)
@pool_size
@click.option("--fine-tune", is_flag=True, help="Train the whole network, as the seed article does (slow).")
@click.option(
    "--augment",
    is_flag=True,
    help="With --fine-tune: show images flipped at random, and random parts of them. Not for digits.",
)
@click.option(
    "--stop-training",
    default="validation",
    show_default=True,
    metavar="RULE",
    shell_complete=completing.stop_rule,
    help="When a round of --fine-tune ends: validation, test, loss or epochs.",
)
@click.option(
    "--epochs", default=10, show_default=True, help="Epochs of a round, for --stop-training epochs."
)
@click.option(
    "--noise", default=0.0, show_default=True, metavar="SHARE", help="Wrong answers of the simulated oracle."
)
@click.option(
    "--long-tail",
    default=1.0,
    show_default=True,
    metavar="FACTOR",
    help="Make the pool's largest class FACTOR times its smallest; which is rare changes with the seed.",
)
@click.option(
    "--outliers",
    default=0.0,
    show_default=True,
    metavar="SHARE",
    help="Share of the pool that is of no known class: asking for one costs a label and teaches nothing.",
)
@click.option(
    "--duplicates",
    default=1,
    show_default=True,
    metavar="FACTOR",
    help="Put each image into the pool FACTOR times, slightly changed.",
)
@click.option(
    "--out",
    default="vizsla-out",
    show_default=True,
    type=click.Path(path_type=Path),
    metavar="OUT",
    help="Folder of the report; run again with the same folder to go on.",
)
@log_option
@engine_options
@json_option
def compare(images: Place, **options: Any) -> None:
    """Compare query strategies on images in class folders or a list: how many labels does each need?

    --noise, --long-tail, --outliers and --duplicates make the pool harder, alone or together; the test set
    stays clean and balanced as it is. With --engine ray, seeds and strategies run side by side, to the same curves.
    """
    if options["fine_tune"] and options["stop_training"] == "test":
        complain(
            "note: --stop-training test looks at the test set to decide when to stop, as the seed article did; "
            "the accuracies shown are a little too good.",
            0,
        )
    _compare(settled(images), **options | {"splits": options["splits"] is not False})


@cli.command()
@click.option(
    "--out", default="vizsla-demo", show_default=True, type=click.Path(path_type=Path), metavar="OUT"
)
@json_option
def demo(out: Path, as_json: bool) -> None:
    """The seed article's experiment on bundled digits: offline, about two minutes, no questions asked."""
    from vizsla.data.samples import DEMO, digits_folder

    click.echo(
        "1,797 handwritten digits; three strategies choose which of them get a label. One row per strategy follows.",
        err=as_json,
    )
    _compare(digits_folder(), out=out, as_json=as_json, **DEMO)


def _compare(images: Place, *, out: Path, as_json: bool, **options: Any) -> None:
    from rich.console import Console

    from vizsla.engine import engine_named
    from vizsla.experiment import compare
    from vizsla.report import print_table

    name, address = options.pop("engine", "local"), options.pop("address", None)
    with engine_named(name, address) as engine, bars() as (embedding, labelling):
        if name != "local":
            options["engine"] = engine
        comparison = compare(images, out=out, progress=embedding, on_round=labelling, **options)
    written = {name: out / name for name in ("report.html", "curves.png", "summary.csv", "curves.json")}
    if as_json:
        documents.show(documents.comparison(comparison, written))
        return
    print_table(comparison, Console())
    for file in written.values():
        click.echo(f"  {file}")


@cli.command()
@click.option("--strategy", required=True, metavar="NAME", shell_complete=completing.strategy)
@click.option(
    "--embeddings",
    type=place,
    metavar="FILE",
    help="(N, D) features; also a folder that vizsla embed --out wrote, here or in a bucket.",
)
@click.option("--probs", type=place, metavar="FILE", help="(N, C) class probabilities.")
@click.option(
    "--draws",
    default="dropout",
    show_default=True,
    metavar="FILE|dropout|laplace",
    help="(N, K, C) class probabilities in K draws, or how to draw from the head.",
)
@click.option("--labelled", type=place, metavar="FILE", help="Rows that are labelled already.")
@click.option("--labels", type=place, metavar="FILE", help="Their classes.")
@click.option("-n", "n", required=True, type=int, help="How many rows to choose.")
@click.option("--seed", default=0, show_default=True)
@pool_size
@click.option(
    "--shortlist",
    default=50_000,
    show_default=True,
    help="Rows of a folder that a strategy which weighs them against each other looks at.",
)
@engine_options
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list instead of one row number per line.")
def select(as_json: bool, engine: str, address: str | None, shortlist: int, **options: Any) -> None:
    """Choose rows of arrays to label next, best first. A FILE is a .npy, .npz or .parquet file, or the URL of one.

    Of a folder of features, or with --engine ray, they are read part by part, wherever the engine runs.
    """
    from vizsla.cli.arrays import load
    from vizsla.cli.engines import select_from_shards
    from vizsla.selection import select as choose

    for name in ("labelled", "labels"):
        options[name] = load(name, options[name])
    if options["labelled"] is None:
        options["labelled"] = ()
    if is_sharded(options["embeddings"], engine):
        strategy, pool = options.pop("strategy"), options.pop("embeddings")
        options |= {"engine": engine, "address": address, "shortlist": shortlist, "as_json": as_json}
        select_from_shards(strategy, pool, **options)
        return
    if engine != "local":
        raise BadOption(f"--engine {engine} reads --embeddings: a folder of shards, or a .npy file.")
    for name in ("embeddings", "probs"):
        options[name] = load(name, options[name])
    if options["draws"] not in ("dropout", "laplace"):
        options["draws"] = load("draws", options["draws"])
    rows = choose(options.pop("strategy"), **options).tolist()
    click.echo(json.dumps(rows) if as_json else "\n".join(map(str, rows)))


@cli.command(epilog=SOURCES)
@click.argument("images", type=place, metavar="IMAGES")
@backbone
@click.option("--image-size", type=int, metavar="PX", help="Side of the network's input; default: its own.")
@precision
@click.option(
    "--out",
    type=place,
    metavar="FILE",
    help="Also write the features: .npz, .parquet, or .npy with a .csv; or a folder, here or in a bucket, in shards.",
)
@click.option(
    "--shard",
    default=8192,
    show_default=True,
    metavar="N",
    help="Images of a shard, where --out is a folder.",
)
@splits_option
@engine_options
@json_option
def embed(
    images: Place,
    backbone: str,
    image_size: int | None,
    precision: str,
    out: Place | None,
    shard: int,
    splits: bool | None,
    engine: str,
    address: str | None,
    as_json: bool,
) -> None:
    """Compute the features of all images, once: other commands find them in the cache.

    An interrupted run goes on where it stopped; new and changed images are added by running it again. With int8 up
    to 500 images are computed in float32 too, to say what is lost.

    A folder for --out takes them in shards instead, past what one cache holds; with --engine ray on many machines.
    """
    import time

    from vizsla.caching import cache_dir
    from vizsla.cli.arrays import check_writable, save
    from vizsla.data.indexed import IndexedDataset
    from vizsla.models.backbones import load_backbone
    from vizsla.models.embed import embed as embed_all
    from vizsla.models.runtime import best_runtime

    if engine != "local" or (out is not None and not PurePath(out).suffix):
        from vizsla.cli.engines import embed_to_shards
        from vizsla.data.sources import source_of

        embed_to_shards(
            source_of(settled(images)),
            out,
            engine=engine,
            address=address,
            shard=shard,
            as_json=as_json,
            backbone=backbone,
            image_size=image_size,
            precision=precision,
        )
        return
    if out is not None and PurePath(out).suffix not in TABLES:
        raise BadOption(f"--out {out} must end in .npy, .npz or .parquet, or be a folder, without an ending.")
    if out is not None:
        check_writable(out)
    network = load_backbone(backbone, image_size=image_size, precision=precision)
    dataset = IndexedDataset(settled(images), check=False, splits=splits is not False)
    began = time.monotonic()
    with bars() as (embedding, _):
        found = embed_all(dataset, network, progress=embedding)
    seconds = time.monotonic() - began
    lost = None
    if precision == "int8":
        from vizsla.models.likeness import likeness

        with bars() as (embedding, _):
            lost = likeness(dataset, network, progress=embedding)
    if out is not None:
        save(out, [dataset.file_name(image) for image in found.ids.tolist()], found)
    runtime, kept = best_runtime(network).name, cache_dir() / "embeddings" / network.key
    if as_json:
        about = {"seconds": seconds, "runtime": runtime, "precision": precision, "cache": kept, "out": out}
        documents.show(documents.embedded(dataset, network.dim) | about | {"likeness": lost and asdict(lost)})
        return
    click.echo(
        f"{len(found.ids):,} images, {network.dim} features each, in {seconds:.1f} s "
        f"with {runtime}, {precision}; kept in {kept}"
    )
    if lost:
        click.echo(lost.sentence)
    if out is not None:
        click.echo(f"  {out}")

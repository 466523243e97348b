"""Commands on a project: a person's own images, labelled through the page."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from vizsla import logs
from vizsla.cli import completing, documents
from vizsla.cli.base import cli, log_option, log_setting, names, splits_option
from vizsla.cli.documents import json_option
from vizsla.cli.engines import engine_options
from vizsla.cli.places import SOURCES, place, settled
from vizsla.engine import engine_named
from vizsla.errors import BadOption
from vizsla.logs import FORMAT, FORMATS

if TYPE_CHECKING:
    from collections.abc import Callable

    from vizsla.cli.places import Place
    from vizsla.project import Project
    from vizsla.web.door import Door

HERE = ".vizsla"

project_option = click.option(
    "--project",
    envvar="VIZSLA_PROJECT",
    metavar="P",
    shell_complete=completing.folder,
    help="Folder or database URL of the project; default: .vizsla in the current folder.",
)


images_option = click.option(
    "--images",
    envvar="VIZSLA_IMAGES",
    type=place,
    metavar="IMAGES",
    help="Where the images lie for this machine; default: where the project says.",
)


def the_project(address: str | None, images: Place | None = None) -> Project:
    """Open the project that a command is about."""
    from vizsla.project import Project

    if address is None and not (Path(HERE) / "project.db").exists():
        raise BadOption("there is no project in the current folder. Give it: --project P.")
    return Project.open(address or HERE, images, remember=False)


def _settings(command: Callable[..., None]) -> Callable[..., None]:
    """Options that a project remembers."""
    for option in reversed(
        [
            click.option(
                "--classes",
                callback=names,
                metavar="A,B,…",
                help="What to choose from; more may be added on the page.",
            ),
            click.option(
                "--labels",
                type=click.Choice(["none", "folders"]),
                help="folders: class folders are labels already; none: every image counts as unlabelled.",
            ),
            splits_option,
            click.option(
                "--strategy",
                metavar="NAME",
                shell_complete=completing.strategy,
                help="Query strategy; default: auto.",
            ),
            click.option(
                "--backbone",
                metavar="NAME",
                shell_complete=completing.backbone,
                help="Network that looks at the images; default: efficientnet_lite0.",
            ),
            click.option(
                "--precision",
                type=click.Choice(["float32", "int8"]),
                help="Of that network; int8 is twice as fast on a CPU and nearly as good. Default: float32.",
            ),
            click.option(
                "--audit",
                type=float,
                metavar="SHARE",
                help="Share of random checks, which measure accuracy; default: 0.1.",
            ),
            click.option(
                "--target",
                type=float,
                metavar="ACCURACY",
                help="Advise to stop once the accuracy is surely above it, such as 0.9.",
            ),
            click.option("--budget", type=int, metavar="N", help="Labels you are ready to give."),
            log_option,
            click.option(
                "--guidelines", metavar="TEXT|FILE", help="What annotators should know; shown on the page."
            ),
        ]
    ):
        command = option(command)
    return command


log_format_option = click.option(
    "--log-format",
    type=click.Choice(FORMATS),
    default="plain",
    show_default=True,
    envvar=FORMAT,
    help="json: requests and events, one object a line, on the standard error.",
)


def _serving(command: Callable[..., None]) -> Callable[..., None]:
    """Options of a server."""
    for option in reversed(
        [
            click.option(
                "--host",
                default="127.0.0.1",
                show_default=True,
                help="Address to listen on; any but loopback asks for tokens.",
            ),
            click.option("--port", type=int, metavar="N", help="Default: the first free one from 8050 on."),
            click.option(
                "--allow-host",
                multiple=True,
                metavar="NAME",
                help="Another name that this server is reached by.",
            ),
            click.option(
                "--signed-urls",
                is_flag=True,
                help="Let browsers load large pictures from the bucket itself, by URLs that last an hour.",
            ),
            click.option("--read-only", is_flag=True, help="Show, but take no answers."),
            click.option("--no-trainer", is_flag=True, help="Train elsewhere, with vizsla worker."),
        ]
    ):
        command = option(command)
    return command


@cli.command(epilog=SOURCES)
@click.argument("images", type=place, metavar="[IMAGES]", required=False)
@_settings
@click.option(
    "--project",
    metavar="P",
    shell_complete=completing.folder,
    help="Folder or database URL for labels and settings; default: .vizsla beside the images.",
)
@_serving
@click.option(
    "--browser/--no-browser", default=True, help="Open the page in the browser, where there is one."
)
@click.option("--annotator", default="me", show_default=True, help="Your name, kept with each label.")
@click.option("--terminal", is_flag=True, help="Ask in this terminal instead of on a page.")
def label(images: Place | None, browser: bool, annotator: str, terminal: bool, **options: Any) -> None:
    """Label images, the most useful first, on a page in your browser.

    Without IMAGES it opens 1,797 handwritten digits, to try it out. Stop and go on as you like: every answer is on
    disk before the next question.
    """
    from vizsla.project import Project

    source, given = _samples(options) if images is None else (settled(images), _given(options))
    with Project.open(options["project"], source) as project:
        project.change(**given)
        project.add_classes(options["classes"])
        if terminal:
            _ask_in_terminal(project, annotator)
        else:
            _serve(project, _door(project, options, annotator), options, browser=browser)


@cli.command(epilog=SOURCES)
@click.argument("images", type=place, metavar="[IMAGES]", required=False)
@_settings
@project_option
@_serving
@log_format_option
@click.option(
    "--label-studio",
    is_flag=True,
    help="Serve a machine-learning backend for Label Studio instead of the page; on port 9090.",
)
@engine_options
def serve(images: Place | None, label_studio: bool, **options: Any) -> None:
    """Serve the labelling page for a team: give each a token with `vizsla users add NAME`."""
    from vizsla.project import Project

    logs.set_up(options["log_format"])
    engine_named(options["engine"], options["address"])  # says what is wrong with them
    if options["no_trainer"] and options["engine"] != "local":
        raise BadOption(
            f"--engine {options['engine']} is the trainer's. Leave out --no-trainer, or give it to vizsla worker."
        )
    opened = (
        the_project(options["project"])
        if images is None
        else Project.open(options["project"], settled(images))
    )
    with opened as project:
        project.change(**_given(options))
        project.add_classes(options["classes"])
        door = _door(project, options, "me")
        if label_studio:
            _serve_label_studio(project, door, options)
        else:
            _serve(project, door, options, browser=False)


def _given(options: dict[str, Any]) -> dict[str, Any]:
    kept = (
        "labels",
        "splits",
        "strategy",
        "backbone",
        "precision",
        "audit",
        "target",
        "budget",
        "guidelines",
    )
    given = {name: options[name] for name in kept}
    text = given["guidelines"]
    if text and os.path.isfile(text):  # noqa: PTH113 — Path.is_file raises where the text is too long for a name
        given["guidelines"] = Path(text).read_text("utf-8", errors="replace")
    given["log"] = log_setting(options["log"])
    return _checked(given)


def _checked(given: dict[str, Any]) -> dict[str, Any]:
    """Names that nobody knows are found now, not by the trainer later. Only then is it worth loading torch."""
    if given["strategy"] is not None:
        from vizsla.strategy.base import strategies

        given["strategy"] = strategies[given["strategy"]].name
    return given


def _samples(options: dict[str, Any]) -> tuple[Path, dict[str, Any]]:
    from vizsla.data.samples import DEMO, digits_folder

    click.echo("No folder given: here are 1,797 handwritten digits to try it with.")
    return digits_folder(), {"image_size": DEMO["image_size"], **_given(options)}


def _door(project: Project, options: dict[str, Any], newcomer: str) -> Door:
    from vizsla.web.door import Door, cookie_name

    return Door(
        host=options["host"],
        allowed=frozenset(name.lower() for name in options["allow_host"]),
        read_only=options["read_only"],
        cookie=cookie_name(project.mark),
        newcomer=newcomer,
        pictures_from=_origin(project.source.signed("any", 60)) if options["signed_urls"] else "",
    )


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _serve(project: Project, door: Door, options: dict[str, Any], *, browser: bool) -> None:
    from vizsla.web.server import address_of, bind, open_browser, serve

    listener = bind(door.host, options["port"])
    address = address_of(listener, door.host)

    def ready() -> None:
        opened = browser and open_browser(address)
        logs.tell("listening", address=address, project=project.store.name)
        if logs.is_json():
            return
        click.echo(f"{project.source.address} · answers go to {project.store.name}")
        click.echo(f"{'Opened' if opened else 'Open'} {address} to label. Ctrl-C ends; every answer is kept.")
        if door.needs_token:
            click.echo("Everyone needs a token: vizsla users add NAME")

    serve(project, door, listener, trainer=_trainer(options), on_ready=ready)


def _trainer(options: dict[str, Any]) -> list[str] | None:
    """Options of the trainer that works beside a server; None: there is none."""
    if options["no_trainer"]:
        return None
    given = [(f"--{name}", options.get(name)) for name in ("engine", "address")]
    return [text for option, value in given if value for text in (option, value)]


def _serve_label_studio(project: Project, door: Door, options: dict[str, Any]) -> None:
    from vizsla.web.label_studio import PORT, create_backend
    from vizsla.web.server import address_of, bind, serve

    if door.read_only:
        raise BadOption("--read-only does not go with --label-studio, which takes answers. Leave one out.")
    listener = bind(door.host, PORT if options["port"] is None else options["port"])

    def ready() -> None:
        click.echo(f"{project.source.address} · answers go to {project.store.name}")
        click.echo(f"In Label Studio, connect the model {address_of(listener, door.host)} · Ctrl-C ends.")
        if door.needs_token:
            click.echo(
                "It needs a token in its address, http://vizsla:TOKEN@…: vizsla users add label-studio"
            )

    serve(project, door, listener, trainer=_trainer(options), on_ready=ready, make=create_backend)


def _ask_in_terminal(project: Project, annotator: str) -> None:
    from vizsla.labelling import label_in_terminal

    session = label_in_terminal(project, annotator=annotator)
    click.echo(f"{session.labelled} labels in {project.store.name}; {session.remaining} images to go.")


@cli.command()
@project_option
@images_option
@log_format_option
@engine_options
@click.option("--with-parent", is_flag=True, hidden=True, help="End when the standard input closes.")
def worker(
    project: str | None,
    images: Place | None,
    log_format: str,
    engine: str,
    address: str | None,
    with_parent: bool,
) -> None:
    """Train in the background for a project that is served elsewhere.

    With --engine ray the images are embedded on many machines, which must find them under the same address.
    """
    import threading

    from vizsla.companion import be_kind, end_with_parent

    if with_parent:
        end_with_parent()
    be_kind()
    logs.set_up(log_format)
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    with the_project(project, images) as opened, engine_named(engine, address) as running:
        from vizsla.training.worker import work

        logs.tell("training for", project=opened.store.name, images=opened.source.address)
        if not (with_parent or logs.is_json()):
            click.echo(f"training for {opened.source.address}; Ctrl-C ends.")
        work(opened, threading.Event(), None if engine == "local" else running)


@cli.command()
@project_option
@json_option
def status(project: str | None, as_json: bool) -> None:
    """How a project stands: labels, classes, accuracy with its interval, advice."""
    from vizsla.cli.tables import print_status

    with the_project(project) as opened:
        if as_json:
            documents.show(documents.status(opened))
        else:
            print_status(opened)


@cli.command()
@project_option
@click.option("-n", "n", default=10, show_default=True, help="How many images.")
@click.option("--relabel", is_flag=True, help="Labelled images that are worth asking again.")
@click.option(
    "--embeddings",
    type=place,
    metavar="FOLDER",
    help="Choose now from all images that vizsla embed --out FOLDER has seen, however many; also a URL.",
)
@click.option(
    "--seed", default=0, show_default=True, help="With --embeddings: decides what is left to chance."
)
@engine_options
@json_option
def query(
    project: str | None,
    n: int,
    relabel: bool,
    embeddings: Place | None,
    seed: int,
    engine: str,
    address: str | None,
    as_json: bool,
) -> None:
    """Print the images whose labels would help most, best first.

    They are those that the trainer has ranked. With --embeddings it takes no trainer: the project's labels and
    strategy choose from a folder of shards, on many machines with --engine ray.
    """
    if embeddings is None and engine != "local":
        raise BadOption(
            f"--engine {engine} needs features: --embeddings FOLDER, from vizsla embed --out FOLDER."
        )
    with the_project(project) as opened:
        if embeddings is not None:
            from vizsla.cli.engines import query_shards

            query_shards(opened, embeddings, n, engine=engine, address=address, seed=seed, as_json=as_json)
            return
        images = opened.store.upcoming(n, relabel=relabel)
    if as_json:
        documents.show(documents.upcoming(images))
        return
    for item in images:
        click.echo(f"{item.path}\t{item.reason}")

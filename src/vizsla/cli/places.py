"""Where images and arrays are, as a person types it: a path, a URL, or a data set of another library."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    Place = Path | str

SOURCES = "IMAGES: a folder, a list (.csv, .jsonl, .parquet), a URL (s3://…), torchvision:NAME or hf:NAME."


class PlaceType(click.ParamType):
    """A path, or text where it has a scheme of its own."""

    name = "path or URL"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Place:
        from vizsla.data.borrowed import KINDS
        from vizsla.data.remote import is_url

        if isinstance(value, Path):
            return value
        return value if is_url(value) or value.startswith(KINDS) else Path(value)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        return [CompletionItem(incomplete, type="file")]


place = PlaceType()


def settled(images: Place) -> Place:
    """What was given; a data set of another library is written as a folder first, with a progress bar."""
    from vizsla.cli.base import steps
    from vizsla.data import borrowed

    with steps() as step:
        return borrowed.settled(images, lambda done, total: step(f"copying {images}", done, total))

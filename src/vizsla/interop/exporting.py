"""From a project into a foreign file or folder, whole or not at all."""

from __future__ import annotations

import difflib
from pathlib import Path

from vizsla.caching import write_stream_atomically
from vizsla.data.sources import Source, source_of
from vizsla.errors import BadOption, UnknownName
from vizsla.interop.base import Format, formats
from vizsla.interop.outgoing import Outgoing
from vizsla.interop.trees import write_folder_atomically
from vizsla.interop.zips import stream
from vizsla.store import Store
from vizsla.types import Progress

_TABLES = {".csv", ".json", ".jsonl", ".parquet", ".txt"}


def export_labels(
    store: Store,
    images: str | Path | Source,
    format: str,
    out: str | Path,
    *,
    form: str | None = None,
    labels_only: bool = False,
    progress: Progress | None = None,
) -> tuple[str, ...]:
    """Write the labels of a project. A format of many files becomes a folder, or a zip where `out` ends in `.zip`.

    Args:    images: where they are. form: which of the format's forms, by default its first.
             labels_only: leave the images out. progress: called with (done, total).
    Returns: paths of the images that could not be written, for they are gone or replaced by others.
    """
    chosen, out = formats[format], Path(out).absolute()
    if form is not None and form not in chosen.forms:
        raise _no_form(chosen, form)
    outgoing = Outgoing(store, source_of(images), labels_only=labels_only, progress=progress)
    if not chosen.forms:
        if out.is_dir():
            raise BadOption(
                f"{out} is a folder. Give the name of a file: --out {out / f'labels{chosen.suffix}'}"
            )
        write_stream_atomically(out, chosen.write(outgoing))
        return ()
    if out.suffix.lower() in _TABLES:
        raise BadOption(
            f"{format} is more than one file. Give the name of a folder, or one that ends in .zip: --out {out.stem}"
        )
    members = (chosen.forms[form] if form else next(iter(chosen.forms.values())))(outgoing)
    if out.suffix.lower() == ".zip":
        write_stream_atomically(out, stream(members))
    else:
        write_folder_atomically(out, members)
    return tuple(outgoing.missing)


def _no_form(chosen: Format, form: str) -> UnknownName:
    if not chosen.forms:
        return UnknownName(f"{chosen.name} has one form only. Leave out --form {form}.")
    close = difflib.get_close_matches(form, chosen.forms, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return UnknownName(f"{chosen.name} has no form {form!r}.{hint} Known: {', '.join(chosen.forms)}.")

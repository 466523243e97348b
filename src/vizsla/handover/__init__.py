"""A trained model, handed over to where it is used.

folder.py  a folder with weights, facts and a model card
card.py    the model card: how good, trained on what, how to run it
"""

from __future__ import annotations

from pathlib import Path

from vizsla.errors import BadOption
from vizsla.handover.folder import write_folder
from vizsla.models.pipeline import write_onnx, write_torch
from vizsla.project import Project
from vizsla.training.kept import model_of

FORMS = {"model": ".safetensors", "onnx": ".onnx", "torch": ".pt2"}
"""What a model may be handed over as, and how such a file's name ends. `model` without a suffix is a folder."""


def hand_over(project: Project, form: str, out: Path, *, head: bool = False) -> None:
    """Write the project's model in one of the `FORMS`, whole or not at all.

    Args:   head: the newest head, even where a fine-tuned network was kept.
    Raises: BadOption where there is no model yet, or the name does not end as it should.
    """
    suffix = FORMS[form]
    a_folder = form == "model" and (out.is_dir() or not out.suffix)
    if not a_folder and out.suffix != suffix:
        other = ", or be a folder" if form == "model" else ""
        raise BadOption(f"--out {out} must end in {suffix}{other}.")
    model = model_of(project, head=head)
    if a_folder:
        write_folder(project, model, out)
    elif form == "onnx":
        write_onnx(model, out)
    elif form == "torch":
        write_torch(model, out)
    else:
        from vizsla.caching import write_atomically

        write_atomically(out, model.bundle.to_bytes())

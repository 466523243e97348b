"""TensorBoard's event files, a folder for each curve."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter


class TensorBoard:
    """Event files below a folder. Show them with `tensorboard --logdir FOLDER`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, name: str, key: str, about: Mapping[str, Any], *, anew: bool) -> EventFile:
        return EventFile(self.folder / name, about, anew=anew)


class EventFile:
    """One curve."""

    def __init__(self, folder: Path, about: Mapping[str, Any], *, anew: bool) -> None:
        self._writer = SummaryWriter(str(folder), purge_step=0 if anew else None)
        self._writer.add_text("about", f"```json\n{json.dumps(about, indent=1, ensure_ascii=False)}\n```")

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()

"""What a server or worker says of its work: words for people, or one JSON object a line for machines."""

from __future__ import annotations

import json
import logging
import os
from datetime import UTC, datetime
from typing import Any

FORMATS = ("plain", "json")
FORMAT = "VIZSLA_LOG_FORMAT"
"""The environment variable that tells the processes of a server how to log."""

_log = logging.getLogger("vizsla")


def set_up(form: str) -> None:
    """Log to the standard error from now on, in this process and in those that it starts.

    Args: form: `plain`, warnings and worse in words; `json`, our own events, too, an object a line.
    """
    os.environ[FORMAT] = form
    if form == "json":
        handler = logging.StreamHandler()
        handler.setFormatter(OneObject())
        logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
        _log.setLevel(logging.INFO)
        logging.captureWarnings(True)


def is_json() -> bool:
    """Whether this process logs for machines."""
    return any(isinstance(handler.formatter, OneObject) for handler in logging.getLogger().handlers)


def tell(event: str, **fields: Any) -> None:
    """Log that something happened, with what belongs to it."""
    _log.info(event, extra={"fields": fields})


class OneObject(logging.Formatter):
    """Time, level, event, and what belongs to the event; a traceback stays on its line."""

    def format(self, record: logging.LogRecord) -> str:
        """
        >>> record = logging.LogRecord("vizsla", logging.INFO, "", 0, "request", None, None)
        >>> record.created, record.fields = 0.25, {"path": "/", "status": 200}
        >>> OneObject().format(record)
        '{"time": "1970-01-01T00:00:00.250Z", "level": "info", "event": "request", "path": "/", "status": 200}'
        """
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        said = {
            "time": moment.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            said["error"] = self.formatException(record.exc_info)
        return json.dumps(said, default=str)

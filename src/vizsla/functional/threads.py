"""How many threads small matrices get."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache

from threadpoolctl import ThreadpoolController


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()  # made once: it looks through every loaded library


def one_thread() -> AbstractContextManager[object]:
    """One thread for what numpy and scikit-learn do inside: on small matrices more only get in each other's way."""
    limit: AbstractContextManager[object] = _controller().limit(limits=1)
    return limit

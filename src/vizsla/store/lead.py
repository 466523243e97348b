"""`Lead`: being the only one in a role."""

from __future__ import annotations

from collections.abc import Callable


class Lead:
    """Whether a role is ours (`bool`), and whether it still is (`held`)."""

    def __init__(self, got: bool, is_alive: Callable[[], bool] = lambda: True) -> None:
        self._got = self._held = got
        self._is_alive = is_alive

    def __bool__(self) -> bool:
        return self._got

    def held(self) -> bool:
        """Ask whether the role is still ours; once lost, it stays so. For the thread that leads."""
        self._held = self._held and self._is_alive()
        return self._held

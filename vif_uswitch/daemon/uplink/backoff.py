# SPDX-License-Identifier: Apache-2.0
"""How long an adapter that failed is left alone: a second, and twice as long each time.

Time is a parameter: nothing here looks at a clock.
"""

from __future__ import annotations

FIRST_S, LAST_S = 1.0, 60.0
STEADY_S = 120.0  # who worked that long after its pause did not fail because of the last failure


class Backoff:
    """Of one adapter."""

    def __init__(self) -> None:
        self._pause = 0.0
        self._since = 0.0  # end of the last pause

    def pause(self, now: float) -> float:
        """It failed, ``now``: how many seconds to wait before the next try."""
        if self._pause and now - self._since < STEADY_S:
            self._pause = min(2 * self._pause, LAST_S)
        else:
            self._pause = FIRST_S
        self._since = now + self._pause
        return self._pause

# SPDX-License-Identifier: Apache-2.0
"""Where log messages go: to standard error, in the line format of oslo.log or as JSON.

The event loop must not wait for whoever reads standard error (a full pipe, a
terminal that was stopped), so messages pass through a bounded queue to a
thread of their own.  What does not fit is counted, and the count is logged
when there is room again.
"""

from __future__ import annotations

import json
import logging
import queue
import sys
import threading
import time
from typing import TextIO

QUEUE_MAX = 2000
CLOSE_S = 1.0


def _one_line(text: str) -> str:
    """Text that was partly written by others must not forge lines or colours."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


class LineFormatter(logging.Formatter):
    """``2026-11-22 07:40:01.123 PID LEVEL name [-] message``, one such line for each line."""

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        head = (
            f"{stamp}.{int(record.msecs):03d} {record.process} {record.levelname}"
            f" {record.name} [-] "
        )
        lines = [_one_line(record.getMessage())]
        if record.exc_info:
            lines += [_one_line(line) for line in self.formatException(record.exc_info).split("\n")]
        return "\n".join(head + line for line in lines)


class JsonFormatter(logging.Formatter):
    """One object a line."""

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        value = {
            "time": f"{stamp}.{int(record.msecs):03d}Z",
            "pid": record.process,
            "level": record.levelname,
            "name": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            value["traceback"] = self.formatException(record.exc_info)
        return json.dumps(value, ensure_ascii=True)


class QueuedHandler(logging.Handler):
    """Formats in the caller's thread, writes in its own; never waits, never raises."""

    def __init__(self, stream: TextIO, size: int = QUEUE_MAX) -> None:
        super().__init__()
        self._stream = stream
        self._queue: queue.Queue[str | None] = queue.Queue(size)
        self._lost = 0
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
            if self._lost:
                lost = logging.LogRecord(
                    __name__, logging.WARNING, "", 0, "%d messages were lost: the reader of"
                    " the log is too slow", (self._lost,), None,
                )  # fmt: skip
                self._queue.put_nowait(self.format(lost))
                self._lost = 0
            self._queue.put_nowait(text)
        except queue.Full:
            self._lost += 1
        except Exception:
            self.handleError(record)

    def _write(self) -> None:
        while (text := self._queue.get()) is not None:
            try:
                self._stream.write(text + "\n")
                self._stream.flush()
            except (OSError, ValueError):
                pass  # nobody reads any more

    def close(self) -> None:
        """Writes what is left, but does not wait long for it."""
        try:
            self._queue.put(None, timeout=CLOSE_S)
            self._thread.join(CLOSE_S)
        except queue.Full:
            pass
        super().close()


def setup(*, debug: bool, as_json: bool, stream: TextIO | None = None) -> QueuedHandler:
    """Sends the messages of the whole process to ``stream``; the caller closes the handler."""
    handler = QueuedHandler(sys.stderr if stream is None else stream)
    handler.setFormatter(JsonFormatter() if as_json else LineFormatter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.DEBUG if debug else logging.INFO)
    # asyncio and oslo.config tell about themselves, not about the switch.
    for name in ("asyncio", "oslo_config", "stevedore"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return handler

# SPDX-License-Identifier: Apache-2.0
"""Log lines: their format, what cannot be forged, and that nobody waits for the reader."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import threading
import time
from collections.abc import Iterator

import pytest

from vif_uswitch.daemon import log

LINE = re.compile(
    r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} \d+ (?P<level>[A-Z]+) (?P<name>\S+) \[-\]"
    r" (?P<text>.*)$"
)


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def logged(*, debug: bool = False, as_json: bool = False) -> list[str]:
    stream = io.StringIO()
    handler = log.setup(debug=debug, as_json=as_json, stream=stream)
    logger = logging.getLogger("uswitch.test")
    logger.debug("fine")
    logger.info("port %s: forged\n2026-01-01 line \x1b[31mred", "vm1")
    try:
        raise ValueError("secret\nline")
    except ValueError:
        logger.exception("it failed")
    handler.close()
    return stream.getvalue().splitlines()


def test_lines_are_in_the_oslo_format_and_cannot_be_forged() -> None:
    lines = logged()
    assert all(LINE.match(line) for line in lines)
    first = LINE.match(lines[0])
    assert first and first["level"] == "INFO" and first["name"] == "uswitch.test"
    assert first["text"] == r"port vm1: forged\n2026-01-01 line \x1b[31mred"
    assert any("Traceback" in line for line in lines)
    assert not any("fine" in line for line in lines)
    assert any("fine" in line for line in logged(debug=True))


def test_json_lines() -> None:
    values = [json.loads(line) for line in logged(as_json=True)]
    assert values[0]["message"].startswith("port vm1: forged\n")
    assert values[0]["pid"] == os.getpid() and values[0]["level"] == "INFO"
    assert "Traceback" in values[1]["traceback"]


def test_a_reader_that_stands_still_holds_nobody_up() -> None:
    read, write = os.pipe()
    stream = os.fdopen(write, "w")
    handler = log.QueuedHandler(stream, size=50)
    handler.setFormatter(log.LineFormatter())
    logger = logging.Logger("uswitch.test")  # noqa: LOG001 (of this test alone)
    logger.addHandler(handler)
    for _ in range(3000):  # for ever, if one of them waited for the pipe
        logger.info("x" * 100)
    collected = bytearray()
    reader = threading.Thread(target=lambda: _drain(read, collected), daemon=True)
    reader.start()
    deadline = time.monotonic() + 10
    while _lost(collected) < 1000 and time.monotonic() < deadline:
        logger.info("again")
        time.sleep(0.01)
    handler.close()
    stream.close()
    reader.join(5)
    os.close(read)
    assert _lost(collected) >= 1000  # a pipe holds less than half of them


def _lost(collected: bytearray) -> int:
    """Told in one or in several messages, as the threads happen to run."""
    return sum(map(int, re.findall(rb"(\d+) messages were lost", bytes(collected))))


def _drain(fd: int, into: bytearray) -> None:
    while data := os.read(fd, 65536):
        into.extend(data)


def test_a_reader_that_is_gone_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    handler = log.QueuedHandler(os.fdopen(write, "w"))
    logger = logging.Logger("uswitch.test")  # noqa: LOG001 (of this test alone)
    logger.addHandler(handler)
    logger.info("nobody reads this")
    handler.close()


def test_a_message_that_cannot_be_formatted_is_no_disaster(
    capsys: pytest.CaptureFixture[str],
) -> None:
    stream = io.StringIO()
    handler = log.setup(debug=False, as_json=False, stream=stream)
    logging.getLogger("uswitch.test").info("%d", "no number")
    logging.getLogger("uswitch.test").info("surrogate \ud800")
    handler.close()
    assert "surrogate" in stream.getvalue()

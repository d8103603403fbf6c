# SPDX-License-Identifier: Apache-2.0
"""Numbers and states as people read them.  Functions only."""

from __future__ import annotations

import time
from typing import Any


def count(value: float) -> str:
    """1234 as it is, then 12.3 k, 4.56 M: three digits say enough on a screen."""
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e4)):
        if value >= size:
            value, suffix = value / (1e3 if unit == "k" else size), f" {unit}"
            return f"{value:.{max(0, 3 - len(str(int(value))))}f}{suffix}"
    return f"{value:.0f}"


def size(value: float) -> str:
    """Bytes, in powers of 1024."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError  # the loop returns


def duration(seconds: int) -> str:
    days, rest = divmod(seconds, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, rest = divmod(rest, 60)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def some(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def trunk(rows: list[dict[str, Any]]) -> str:
    return " ".join(f"{row['vid']}:{row['segment']}" for row in rows)


def macs(addresses: list[str]) -> str:
    """The first address, and how many more there are."""
    more = f" +{len(addresses) - 1}" if len(addresses) > 1 else ""
    return f"{addresses[0]}{more}" if addresses else ""


def pairs(values: dict[str, str]) -> str:
    """One a line."""
    return "\n".join(f"{key}={value}" for key, value in values.items())


def guard(value: dict[str, Any]) -> str:
    """What a guarded port may claim to be, one pair a line, as --allow takes it."""
    rows = (f"{pair['mac']}={pair['ip']}" if pair["ip"] else pair["mac"] for pair in value["pairs"])
    return "\n".join(rows) or "may send nothing"


def moment(created_us: int) -> str:
    """Local time."""
    if not created_us:
        return "not known"
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(created_us // 1_000_000))


def where(port: dict[str, Any]) -> str:
    """What stands behind a port: its socket, its kernel device, or its adapter."""
    return str(port["path"] or port["ifname"] or port["pci"])

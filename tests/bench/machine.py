# SPDX-License-Identifier: Apache-2.0
"""What the figures were measured on, and how much else it was doing."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Machine:
    """For the head of the report."""

    cpu: str
    cpus: int
    kernel: str
    dpdk: str
    load_before: str
    load_after: str
    date: str


def load() -> str:
    """Load average of the last minute."""
    return f"{os.getloadavg()[0]:.1f}"


def describe(load_before: str) -> Machine:
    """Now, at the end of the run."""
    text = Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*: (.*)", text)
    return Machine(model[1] if model else platform.machine(), os.cpu_count() or 1,
                   platform.release(), _dpdk(), load_before, load(),
                   time.strftime("%Y-%m-%d"))


def _dpdk() -> str:
    """Version of the reference and generator, as its package tells."""
    done = subprocess.run(["dpkg-query", "-W", "-f", "DPDK ${Version}", "dpdk-dev"],
                          capture_output=True, text=True, check=False)
    return done.stdout or "DPDK of unknown version"

# SPDX-License-Identifier: Apache-2.0
"""How much memory an adapter pins, and whether we may: RLIMIT_MEMLOCK.

The kernel charges what is mapped for DMA to the process that maps, the
dataplane, which has its limit from uswitchd.  The need is reckoned beforehand,
so that an operator reads a number instead of "out of memory".
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable

from vif_uswitch.daemon.model import PortConfig
from vif_uswitch.exceptions import ResourceExhausted

BUFFER = 2048  # as DMA_BUF_SIZE in dataplane/nic/dma.h
DESCRIPTOR = 32  # the largest of our drivers: two queue areas of virtio beside 16 bytes each
RING_DEFAULT = 1024  # no driver of ours prefers larger rings
PAGE = 2 << 20  # pools are made of such pages if there are any
MEBI = 1 << 20

Limit = Callable[[], int]


def pool_size(queues: int, ring_size: int) -> int:
    """Bytes of the pool, at most: for each queue two rings, and a buffer for each descriptor."""
    ring = ring_size or RING_DEFAULT
    need = queues * 2 * ring * (BUFFER + DESCRIPTOR)
    return -(-need // PAGE) * PAGE


def limit() -> int:
    """How much this process and its children may pin, in bytes; -1: as much as they like."""
    if os.geteuid() == 0:
        return -1
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    return soft


def check(config: PortConfig, pinned: int, limit: Limit = limit) -> None:
    """``pinned``: what the other adapters have already."""
    need, allowed = pool_size(config.queues, config.ring_size), limit()
    if allowed == resource.RLIM_INFINITY or pinned + need <= allowed:
        return
    raise too_small(config, pinned, allowed)


def too_small(config: PortConfig, pinned: int, allowed: int) -> ResourceExhausted:
    need = pool_size(config.queues, config.ring_size)
    beside = f" beside the {_mebi(pinned)} of other uplinks" if pinned else ""
    why = (
        f"it needs {_mebi(need)} of locked memory ({config.queues} queue pairs){beside};"
        f" RLIMIT_MEMLOCK of uswitchd is {_mebi(allowed)}"
        if allowed >= 0
        else f"the host has no {_mebi(need)} of memory to lock for {config.queues} queue pairs"
    )
    if config.zero_copy:
        why += "; with zero_copy the memory of all guests comes on top"
    total = -(-(pinned + need) // MEBI)
    return ResourceExhausted(
        "adapter", config.pci, why,
        f"Allow more: LimitMEMLOCK={total}M in uswitchd.service (systemctl edit uswitchd), or"
        f" 'uswitch - memlock {total * 1024}' in /etc/security/limits.conf, and restart uswitchd;"
        " or take fewer queues, or smaller rings.",
    )  # fmt: skip


def _mebi(size: int) -> str:
    return f"{-(-size // MEBI)} MiB"

# SPDX-License-Identifier: Apache-2.0
"""What to do when an adapter may not pin as much memory as it needs: RLIMIT_MEMLOCK.

The kernel charges what is mapped for DMA to the process that maps, the
dataplane, which has its limit from uswitchd.  It says "too much" and no more;
the dataplane says how much it was, and this makes a sentence of it.
"""

from __future__ import annotations

import resource

from vif_uswitch.daemon.instance import user_name
from vif_uswitch.daemon.model import PortConfig
from vif_uswitch.exceptions import ResourceExhausted

MEBI = 1 << 20


def limit() -> int:
    """How much this process, and so its children, may pin, in bytes; -1: no limit."""
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    return -1 if soft == resource.RLIM_INFINITY else soft


def too_small(config: PortConfig, need: int, pinned: int, allowed: int) -> ResourceExhausted:
    """``need``: of this adapter; ``pinned``: what other adapters have; ``allowed``: ``limit()``."""
    beside = f" beside the {_mebi(pinned)} MiB of other uplinks" if pinned else ""
    has = f"RLIMIT_MEMLOCK of uswitchd is {_mebi(allowed)} MiB" if allowed >= 0 else "it may not"
    why = f"it needs {_mebi(need)} MiB of locked memory{beside}, and {has}"
    if config.zero_copy:
        why += "; the memory of all guests is part of it, for zero copy"
    total = _mebi(pinned + need)
    user = user_name()
    return ResourceExhausted(
        "adapter", config.pci, why,
        f"Allow more: LimitMEMLOCK={total}M in the unit (systemctl edit uswitchd), or '{user} -"
        f" memlock {total * 1024}' in /etc/security/limits.conf (for uswitchd --user, and log in"
        " anew), and restart uswitchd and its dataplane; or take fewer --queues, or a smaller"
        " --ring-size.",
    )  # fmt: skip


def _mebi(size: int) -> int:
    return -(-size // MEBI)

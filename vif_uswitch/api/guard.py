# SPDX-License-Identifier: Apache-2.0
"""What a port may claim to be: the API's types of anti-spoofing.

A port without a guard may send what it likes.  One with a guard sends only
frames whose source addresses a pair covers; ``doc/source/switching.rst`` has
the rules.  Checked further by ``daemon/guard.py``.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from vif_uswitch.api.base import Params
from vif_uswitch.api.values import GUARD_PAIRS_MAX, IpPrefix, Mac


class GuardPair(Params, frozen=True):
    """Frames from this MAC address, if from an IP address at all, then from one of these."""

    mac: Mac
    ip: IpPrefix | None = None


class Guard(Params, frozen=True):
    """Without pairs nothing may be sent."""

    pairs: Annotated[
        tuple[GuardPair, ...],
        Meta(
            max_length=GUARD_PAIRS_MAX,
            description="MAC and IP addresses that the port may claim to have, at most 256 pairs.",
        ),
    ]

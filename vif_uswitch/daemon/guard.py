# SPDX-License-Identifier: Apache-2.0
"""What a port may claim to be, between the API's words and the dataplane's bytes.

Functions only.  ``ports.py`` keeps the pairs with the port; None is a port
whose frames nobody checks, () one that may send nothing.
"""

from __future__ import annotations

from vif_uswitch.api import guard as api
from vif_uswitch.daemon.addresses import format_mac, format_prefix, parse_mac, parse_prefix
from vif_uswitch.dataplane.base import GuardPair

Pairs = tuple[GuardPair, ...] | None


def parse(guard: api.Guard | None) -> Pairs:
    """In one order and without repetitions: the same guard is the same value."""
    if guard is None:
        return None
    pairs = {_pair(pair) for pair in guard.pairs}
    return tuple(sorted(pairs, key=lambda pair: (pair.mac, len(pair.ip), pair.ip, pair.prefix_len)))


def _pair(pair: api.GuardPair) -> GuardPair:
    mac = parse_mac(pair.mac)
    return GuardPair(mac) if pair.ip is None else GuardPair(mac, *parse_prefix(pair.ip))


def view(pairs: Pairs) -> api.Guard | None:
    """As the API shows it."""
    if pairs is None:
        return None
    return api.Guard(
        pairs=tuple(
            api.GuardPair(
                mac=format_mac(pair.mac),
                ip=format_prefix(pair.ip, pair.prefix_len) if pair.ip else None,
            )
            for pair in pairs
        )
    )

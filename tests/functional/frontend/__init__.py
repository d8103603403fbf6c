# SPDX-License-Identifier: Apache-2.0
"""A vhost-user front-end in Python: the suite plays QEMU and the guest's driver itself.

``memory`` is guest RAM (memfds), ``virtq`` the driver's side of split rings,
``messages`` the vhost-user wire format, ``peer`` puts them together.  Nothing
here is shared with the product's own parser: what both get wrong in the same
way would go unseen.  Everything can be made wrong on purpose.
"""

from .memory import GuestRam, Region
from .messages import Req, pack, pack_ring_addr, pack_state
from .peer import Frontend, PeerClosed
from .virtq import DriverRing

__all__ = [
    "DriverRing",
    "Frontend",
    "GuestRam",
    "PeerClosed",
    "Region",
    "Req",
    "pack",
    "pack_ring_addr",
    "pack_state",
]

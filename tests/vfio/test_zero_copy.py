# SPDX-License-Identifier: Apache-2.0
"""Zero copy on a real IOMMU: the adapter reads a guest's frames where the guest has them."""

from __future__ import annotations

from testbed.vfio_guest import Nested

from .conftest import Lab, Switch, added
from .test_traffic import GUEST, echo_all

FRAMES = 20_000
SIZE = 1514


def test_frames_are_read_in_place(lab: Lab, host: Nested, switch: Switch) -> None:
    """What comes back from a guest behind vhost-user is what was sent to it, byte for byte.

    Its memory is mapped for the adapter, and no longer once the guest is gone.
    """
    with added(lab, switch, lab.cards["igb"], queues=1, zero_copy=True) as uplink:
        alone = uplink.show()["adapter"]["pool_bytes"]
        switch.do("start_guest", name="guest-zc", segment="red", mac=GUEST.hex(":"))
        mapped = uplink.show()["adapter"]["pool_bytes"]
        echo_all(uplink, "guest-zc", FRAMES, SIZE, timeout=120)
        assert mapped > alone, "the guest's memory was not mapped"
        assert uplink.show()["adapter"]["pool_bytes"] == alone, "it is still mapped"

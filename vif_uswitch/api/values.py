# SPDX-License-Identifier: Apache-2.0
"""The values that parameters of the control API have: what each may be, and a sentence about it.

``types.py`` makes objects of them.  The sentence is what a user reads whose
value was refused, and what the published schema says.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

MACS_MAX = 64
GUARD_PAIRS_MAX = 256
WORKERS_MAX = 32

_NAME = r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$(?!\n)"
_DEVICE = r"^([A-Za-z0-9_][A-Za-z0-9._-]{0,14})?$(?!\n)"
_NAME_RULE = "1 to 64 letters, digits, '.', '_' and '-', not beginning with '.' or '-'"


def _up_to(most: int, description: str) -> Meta:
    """A number from 0 on."""
    return Meta(ge=0, le=most, description=description)


PortName = Annotated[str, Meta(pattern=_NAME, description=f"Name of a port: {_NAME_RULE}.")]
SegmentName = Annotated[str, Meta(pattern=_NAME, description=f"Name of a segment: {_NAME_RULE}.")]
SocketPath = Annotated[
    str,
    Meta(
        max_length=107,
        description="vhost-user socket: an absolute path below vhost_socket_dir, at most 107 bytes"
        " (the kernel's limit); \"\" means NAME.sock in that directory.",
    ),
]
Ifname = Annotated[
    str,
    Meta(
        pattern=_DEVICE,
        description="Name of the kernel's TAP device: 1 to 15 letters, digits, '.', '_' and '-'.",
    ),
]
Netns = Annotated[
    str,
    Meta(
        pattern=r"^([A-Za-z0-9_][A-Za-z0-9._-]{0,63})?$(?!\n)",
        description="Network namespace of the TAP device, a name below /run/netns (see ip netns);"
        " \"\" means that of uswitchd. Root's helper uswitch-tap opens the device there.",
    ),
]
PciAddress = Annotated[
    str,
    Meta(
        pattern=r"^(([0-9A-Fa-f]{4,8}:)?[0-9A-Fa-f]{2}:[0-1][0-9A-Fa-f]\.[0-7])?$(?!\n)",
        description="PCI address of a network adapter, as lspci -D shows it: domain, bus, device,"
        " function, for example 0000:05:00.0; the domain may be left out if it is 0000.",
    ),
]
Physnet = Annotated[
    str,
    Meta(
        pattern=r"^([A-Za-z0-9_][A-Za-z0-9._-]{0,63})?$(?!\n)",
        description="Name of the physical network behind an uplink, as Neutron knows it:"
        f" {_NAME_RULE}; \"\": none.",
    ),
]
UplinkIfname = Annotated[
    str,
    Meta(
        pattern=_DEVICE,
        description="Name of a network device that the kernel keeps: 1 to 15 letters, digits, '.',"
        " '_' and '-'.",
    ),
]
RingSize = Annotated[int, _up_to(
    32768,
    "Descriptors in each ring of the adapter, 0: what its driver prefers. More"
    " survive a longer pause of a worker, and cost memory and cache.",
)]  # fmt: skip
IrqUs = Annotated[int, _up_to(
    10_000,
    "Microseconds between two interrupts of a queue, at least; 0: as often as"
    " there is work. Only for adapters driven by --pci.",
)]  # fmt: skip
Vid = Annotated[int, Meta(ge=1, le=4094, description="VLAN id: 1 to 4094.")]
Mac = Annotated[
    str,
    Meta(
        pattern=r"^[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}$(?!\n)",
        description="A MAC address of one station: six hexadecimal pairs with colons,"
        " not a group address (odd first byte) and not all zero.",
    ),
]
Macs = Annotated[
    tuple[Mac, ...],
    Meta(max_length=MACS_MAX, description="Addresses pinned to the port, at most 64."),
]
Mtu = Annotated[
    int,
    Meta(
        ge=68,
        le=65521,
        description="Bytes of layer 3 payload: 68 (what IPv4 needs) to 65521"
        " (the longest frame is mtu + 14 bytes and must not pass 65535).",
    ),
]
FloodRate = Annotated[int, _up_to(
    2**32 - 1, "Copies a second the port may cause by flooding, 0: no limit.",
)]  # fmt: skip
FloodBurst = Annotated[int, _up_to(
    2**32 - 1, "Copies the port may cause at once by flooding.",
)]  # fmt: skip
FdbQuota = Annotated[int, _up_to(
    5 * 2**20, "Addresses learned from the port, at most.",
)]  # fmt: skip
Queues = Annotated[
    int,
    Meta(
        ge=1,
        le=8,
        description="Queue pairs that the guest may use, 1 to 8; those it does not use cost"
        " nothing. A change counts from the next connection on.",
    ),
]
MaxKbps = Annotated[int, _up_to(
    2**31 - 1, "Kilobits a second the port may send into the switch, 0: no limit.",
)]  # fmt: skip
MaxBurstKbps = Annotated[int, _up_to(
    2**31 - 1, "Kilobits the port may send at once, 0: eight tenths of max_kbps.",
)]  # fmt: skip
MaxKpps = Annotated[int, _up_to(
    2**31 - 1, "Thousands of frames a second the port may send, 0: no limit.",
)]  # fmt: skip
MaxBurstKpps = Annotated[int, _up_to(
    2**31 - 1, "Thousands of frames the port may send at once, 0: eight tenths of max_kpps.",
)]  # fmt: skip
WorkerIndex = Annotated[int, _up_to(
    WORKERS_MAX - 1, "Number of a worker, from 0.",
)]  # fmt: skip
ExternalIds = Annotated[
    dict[
        Annotated[str, Meta(pattern=r"^[a-z][a-z0-9._-]{0,31}$(?!\n)")],
        Annotated[str, Meta(max_length=128)],
    ],
    Meta(
        max_length=16,
        description="Whose the port is, as other programs name it: at most 16 pairs. A key is a"
        " lower case letter and up to 31 lower case letters, digits, '.', '_' and '-'; a value is"
        " printable text of at most 128 characters.",
    ),
]
IpPrefix = Annotated[
    str,
    Meta(
        pattern=r"^[0-9A-Fa-f:.]{2,45}(/[0-9]{1,3})?$(?!\n)",
        description="An IPv4 or IPv6 address, or a prefix of them, for example 10.0.0.5,"
        " 10.0.0.0/24 or fd00::/64; null: no address, the MAC alone.",
    ),
]
Description = Annotated[
    str, Meta(max_length=256, description="Free text for people, at most 256 characters.")
]
Cursor = Annotated[
    str, Meta(max_length=128, description='"" for the first page, then "next" of the page before.')
]

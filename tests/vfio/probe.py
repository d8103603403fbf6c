# SPDX-License-Identifier: Apache-2.0
"""The smallest user of VFIO: shows that the test bed is one, with nothing of the product.

    python -m tests.vfio.probe GROUP ADDRESS send|astray-read|astray-write

runs in the nested host as any user, drives one ring of an igb by hand and prints what it found as a
JSON object.  "astray" gives the adapter an address that was never mapped: the IOMMU has to stop it.
Register numbers: 82576 Gigabit Ethernet Controller datasheet, section 8; ioctls: linux/vfio.h.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import mmap
import os
import resource
import struct
import sys
import time
from typing import Any

CHECK_EXTENSION, SET_IOMMU, GROUP_STATUS, SET_CONTAINER = 0x3B65, 0x3B66, 0x3B67, 0x3B68
GET_DEVICE, REGION_INFO, DEVICE_RESET, MAP_DMA = 0x3B6A, 0x3B6C, 0x3B6F, 0x3B71
TYPE1V2, CONFIG_REGION = 3, 7

CTRL, STATUS, MDIC, RCTL, TCTL = 0x0, 0x8, 0x20, 0x100, 0x400
RX, TX = 0xC000, 0xE000  # of queue 0: BAL +0, BAH +4, LEN +8, SRRCTL +c, DH +10, DT +18, DCTL +28
LINK_UP, QUEUE_ENABLE = 1 << 1, 1 << 25
DATA_DESCRIPTOR = 3 << 20 | 1 << 29 | 1 << 24 | 1 << 25 | 1 << 27  # with EOP, IFCS, RS

IOVA, MEMORY = 0x4000_0000, 65536
NOWHERE = 0x70_0000_0000
RX_RING, TX_RING, RX_BUFFER, TX_BUFFER = 0, 4096, 8192, 16384
HEAD = bytes.fromhex("ffffffffffff 525400000201 88b5")
FRAME = (HEAD + b"a frame of the probe").ljust(60, b"\0")


class Probe:
    """One adapter, opened and reset."""

    def __init__(self, group: str, address: str) -> None:
        self.found: dict[str, Any] = {"uid": os.getuid()}
        container = os.open("/dev/vfio/vfio", os.O_RDWR)
        self.found["type1v2"] = fcntl.ioctl(container, CHECK_EXTENSION, TYPE1V2) == 1
        opened = os.open(f"/dev/vfio/{group}", os.O_RDWR)
        status = fcntl.ioctl(opened, GROUP_STATUS, struct.pack("II", 8, 0))
        self.found["viable"] = bool(struct.unpack("II", status)[1] & 1)
        fcntl.ioctl(opened, SET_CONTAINER, struct.pack("i", container))
        fcntl.ioctl(container, SET_IOMMU, TYPE1V2)
        # In a buffer that could be written to: with any other the answer is the buffer, no number.
        self.device = fcntl.ioctl(opened, GET_DEVICE, bytearray(address.encode() + b"\0"))
        self.memory = mmap.mmap(-1, MEMORY)
        pinned = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        fcntl.ioctl(container, MAP_DMA, struct.pack("IIQQQ", 32, 3, pinned, IOVA, MEMORY))
        fcntl.ioctl(self.device, DEVICE_RESET)
        _, at = self._region(CONFIG_REGION)
        identity = os.pread(self.device, 4, at)
        self.found["id"] = "{:04x}:{:04x}".format(*struct.unpack("<HH", identity))
        os.pwrite(self.device, struct.pack("<H", 6), at + 4)  # memory space, bus master
        size, at = self._region(0)
        self._bar = mmap.mmap(self.device, size, offset=at)

    def _region(self, index: int) -> tuple[int, int]:
        asked = struct.pack("IIIIQQ", 32, 0, index, 0, 0, 0)
        size, offset = struct.unpack("IIIIQQ", fcntl.ioctl(self.device, REGION_INFO, asked))[4:]
        return size, offset

    def read(self, register: int) -> int:
        return ctypes.c_uint32.from_buffer(self._bar, register).value

    def write(self, register: int, value: int) -> None:
        ctypes.c_uint32.from_buffer(self._bar, register).value = value & 0xFFFFFFFF

    def wait(self, register: int, bit: int) -> bool:
        end = time.monotonic() + 10
        while not self.read(register) & bit:
            if time.monotonic() > end:
                return False
            time.sleep(0.01)
        return True

    def link(self) -> None:
        """Set link up and, by MDIC, let the PHY negotiate: QEMU's has no link before."""
        self.write(CTRL, self.read(CTRL) | 1 << 6)
        self.write(MDIC, 0x1340 | 0 << 16 | 1 << 21 | 1 << 26)
        self.found["link"] = self.wait(STATUS, LINK_UP)

    def ring(self, base: int, offset: int) -> None:
        self.write(base, IOVA + offset)
        self.write(base + 4, 0)
        self.write(base + 8, 8 * 16)
        self.write(base + 0x10, 0)
        self.write(base + 0x18, 0)

    def receive(self, buffer: int) -> None:
        """One buffer for one frame of whatever address."""
        struct.pack_into("<QQ", self.memory, RX_RING, buffer, 0)
        self.ring(RX, RX_RING)
        self.write(RX + 0xC, 2 | 1 << 25)  # 2 KiB, advanced descriptors
        self.write(RX + 0x28, QUEUE_ENABLE)
        self.wait(RX + 0x28, QUEUE_ENABLE)
        self.write(RCTL, 1 << 1 | 1 << 3 | 1 << 4 | 1 << 15)  # enable, promiscuous, broadcast
        self.write(RX + 0x18, 1)

    def send(self, buffer: int) -> None:
        self.memory[TX_BUFFER:TX_BUFFER + len(FRAME)] = FRAME
        struct.pack_into("<QII", self.memory, TX_RING, buffer, DATA_DESCRIPTOR | len(FRAME),
                         len(FRAME) << 14)
        self.ring(TX, TX_RING)
        self.write(TX + 0x28, QUEUE_ENABLE)
        self.wait(TX + 0x28, QUEUE_ENABLE)
        self.write(TCTL, 1 << 1 | 1 << 3)
        self.write(TX + 0x18, 1)

    def done(self, ring: int, at: int, seconds: float = 10) -> bool:
        """Whether the adapter has written the first descriptor back."""
        end = time.monotonic() + seconds
        while not struct.unpack_from("<I", self.memory, ring + at)[0] & 1:
            if time.monotonic() > end:
                return False
            time.sleep(0.01)
        return True


def main(group: str, address: str, what: str) -> None:
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    probe = Probe(group, address)
    probe.found["memlock"] = limit
    probe.link()
    if what == "astray-write":
        probe.receive(NOWHERE)
    else:
        probe.receive(IOVA + RX_BUFFER)
    probe.send(NOWHERE if what == "astray-read" else IOVA + TX_BUFFER)
    probe.found["sent"] = probe.done(TX_RING, 12)
    # The wire answers the frame with one of its own.
    probe.found["received"] = probe.done(RX_RING, 8, 3)
    probe.found["payload"] = bytes(probe.memory[RX_BUFFER + 14:RX_BUFFER + 34]).decode("latin-1")
    fcntl.ioctl(probe.device, DEVICE_RESET)  # or it would go on after the memory is unmapped
    print(json.dumps(probe.found))


if __name__ == "__main__":
    main(*sys.argv[1:])

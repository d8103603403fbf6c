# SPDX-License-Identifier: Apache-2.0
"""Guests on an in-process switch: rings in a memfd, driven frame by frame, nothing but the library.

The driver's side of the rings is that of the functional tests, which shares
nothing with the product.  Ring 0 receives, ring 1 transmits, and the test
turns the worker with ``NativeSwitch.poll()``: no thread, no time.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Sequence

from tests.functional.frontend.memory import GuestRam
from tests.functional.frontend.virtq import DriverRing
from vif_uswitch.dataplane.base import MemRegion, RingSetup
from vif_uswitch.dataplane.layout import KIND_VHOST
from vif_uswitch.dataplane.native import NativeSwitch
from vif_uswitch.dataplane.statepage import StatePage

RX, TX = 0, 1
MRG_RXBUF, VERSION_1 = 1 << 15, 1 << 32
FRAME_MAX = 65562


class Guest:
    """One port with one queue pair, its receive buffers posted."""

    def __init__(
        self,
        switch: NativeSwitch,
        port_id: int,
        features: int,
        *,
        mac: bytes,
        tags: Sequence[tuple[int, int]],
        max_frame: int = 1514,
        buffers: int = 256,
        buffer_size: int = 2048,
    ) -> None:
        self.switch, self.port_id, self.features, self.mac = switch, port_id, features, mac
        self.mergeable = bool(features & MRG_RXBUF)
        self.hdr_len = 12 if features & (MRG_RXBUF | VERSION_1) else 10
        self.page = StatePage(switch.state_page(port_id), port_id)
        self.ram = GuestRam((buffers + 1) * (buffer_size + 64) + (1 << 20))
        self.rings = [DriverRing(self.ram, buffers), DriverRing(self.ram, 64)]
        self._buffers: dict[int, int] = {}
        self._tx_at = self.ram.alloc(FRAME_MAX + 4096)
        switch.port_add(port_id, KIND_VHOST, state_fd=self.page.fd, max_frame=max_frame)
        switch.port_tags(port_id, tags)
        switch.port_macs(port_id, [mac])
        (region,) = self.ram.regions
        switch.vhost_mem(
            port_id, [MemRegion(region.gpa, region.size, region.uva, region.offset, region.fd)]
        )
        for index in (RX, TX):
            self._start(index)
        self._buffer_size = buffer_size
        for _ in range(buffers):
            self._post(self.ram.alloc(buffer_size))
        self.rings[RX].publish()

    def _start(self, index: int) -> None:
        ring, uva = self.rings[index], self.ram.uva
        self.switch.ring_start(
            self.port_id,
            RingSetup(
                ring=index, size=ring.size, base=0, features=self.features,
                desc_uva=uva(ring.desc), avail_uva=uva(ring.avail), used_uva=uva(ring.used),
                enabled=True, resume=False, kick_fd=ring.kick_fd, call_fd=ring.call_fd,
            ),
        )  # fmt: skip

    def _post(self, gpa: int) -> None:
        self._buffers[self.rings[RX].add([(gpa, self._buffer_size, True)])] = gpa

    def send(self, header: bytes, frame: bytes, cuts: Sequence[int] = ()) -> None:
        """One frame, its chain cut at these offsets; the worker turns until it is worked off."""
        data = header.ljust(self.hdr_len, b"\0")[: self.hdr_len] + frame
        ring = self.rings[TX]
        self.ram.write(self._tx_at, data)
        edges = sorted({0, len(data), *(cut for cut in cuts if 0 < cut < len(data))})
        parts = itertools.pairwise(edges)
        ring.add([(self._tx_at + start, end - start, False) for start, end in parts])
        ring.publish()
        while self.switch.poll():
            pass
        assert len(ring.take_used()) == 1, "the switch kept the sender's buffer"

    def receive(self) -> list[tuple[bytes, bytes]]:
        """What arrived since the last call: (virtio-net header, frame). Posts the buffers again."""
        found, pending, left = [], b"", 0
        for head, written in self.rings[RX].take_used():
            gpa = self._buffers.pop(head)
            pending += self.ram.read(gpa, written)
            if left == 0:
                left = struct.unpack_from("<H", pending, 10)[0] if self.mergeable else 1
            left -= 1
            if left == 0:
                found.append((pending[: self.hdr_len], pending[self.hdr_len :]))
                pending = b""
            self._post(gpa)
        assert not pending, "a frame in fewer buffers than num_buffers says"
        self.rings[RX].publish()
        return found

    def drops(self) -> dict[str, int]:
        """By name: frames the port sent, and frames it should have got."""
        return {**self.page.incoming().drops, **self.page.outgoing().drops}

    def close(self) -> None:
        """After the switch is closed, or the port is deleted."""
        for ring in self.rings:
            ring.close()
        self.page.close()
        self.ram.close()

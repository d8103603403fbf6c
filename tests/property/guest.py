# SPDX-License-Identifier: Apache-2.0
"""A guest for the property tests: memory in three regions, two rings, chains of every shape.

The borders between the regions lie inside of buffers, so that some of them always cross one.
"""

from __future__ import annotations

import itertools
import random

from tests.functional.frontend.memory import GuestRam
from tests.functional.frontend.virtq import DriverRing, PackedRing
from vif_uswitch.dataplane.base import MemRegion, RingSetup
from vif_uswitch.dataplane.native import NativeSwitch

GPA, UVA = 0x10_0000, 0x7F00_0000_0000
RX_RING, TX_RING = 0, 1
RX_SLOT, RX_SLOTS = 0x4000, 48
RX_AT = GPA + 0x2_0000
TABLES = RX_AT + RX_SLOT * RX_SLOTS  # indirect tables of the transmit ring
TX_AT = TABLES + 0x100 * 64
TX_BYTES = 0x18_0000
BORDERS = (RX_AT + 7 * RX_SLOT + 0x321, TX_AT + 0x1_0011)
END = TX_AT + TX_BYTES
RING_SIZE = 64
INDIRECT, EVENT_IDX, VERSION_1, MERGEABLE, PACKED = 1 << 28, 1 << 29, 1 << 32, 1 << 15, 1 << 34
# (sender's bit, receiver's bit, what it means in model and product)
OFFLOAD_BITS = ((0, 1, 1), (11, 7, 2), (12, 8, 4), (13, 9, 8))


class Ram(GuestRam):
    """Regions that touch: reads and writes may cross their borders."""

    def __init__(self) -> None:
        edges = (GPA, *BORDERS, END)
        super().__init__(edges[1] - edges[0], GPA, UVA)
        for start, end in itertools.pairwise(edges[1:]):
            # Other distances than in the guest, so that nothing works by accident.
            self.add_region(end - start, start, UVA + start * 2)

    def _parts(self, gpa: int, size: int) -> list[tuple[int, int]]:
        cuts = [gpa, *(edge for edge in BORDERS if gpa < edge < gpa + size), gpa + size]
        return list(itertools.pairwise(cuts))

    def write(self, gpa: int, data: bytes) -> None:
        for start, end in self._parts(gpa, len(data)):
            super().write(start, data[start - gpa : end - gpa])

    def read(self, gpa: int, size: int) -> bytes:
        return b"".join(super(Ram, self).read(start, end - start)
                        for start, end in self._parts(gpa, size))

    def table(self) -> list[MemRegion]:
        return [MemRegion(r.gpa, r.size, r.uva, r.offset, r.fd) for r in self.regions]

    def moved(self) -> Ram:
        """Other memory with the same contents."""
        new = Ram()
        for old, region in zip(self.regions, new.regions, strict=True):
            region.map[:] = old.map[:]
        return new


class Guest:
    """One port's driver."""

    def __init__(self, switch: NativeSwitch, port_id: int) -> None:
        self.switch, self.port_id = switch, port_id
        self.ram = Ram()
        self.rings: list[DriverRing] = []
        self.slots: dict[int, int] = {}  # head of a posted chain to its slot
        self.parts: dict[int, list[tuple[int, int, bool]]] = {}
        self.tx_at = TX_AT
        switch.vhost_mem(port_id, self.ram.table())

    def start(self, features: int) -> None:
        self._forget_rings()
        self.ram._next = GPA + 0x1000
        make = PackedRing if features & PACKED else DriverRing
        self.rings = [make(self.ram, RING_SIZE) for _ in range(2)]
        self.slots.clear()
        self.tx_at = TX_AT
        self.features = features
        for ring, driver in enumerate(self.rings):
            self.ram.write(driver.desc, bytes(16 * RING_SIZE))
            self.ram.write(driver.avail, bytes(4 if make is PackedRing else 6 + 2 * RING_SIZE))
            self.ram.write(driver.used, bytes(6 + 8 * RING_SIZE))
            self.switch.ring_start(self.port_id, RingSetup(
                ring=ring, size=RING_SIZE, base=driver.start, features=features,
                desc_uva=self.ram.uva(driver.desc), avail_uva=self.ram.uva(driver.avail),
                used_uva=self.ram.uva(driver.used), enabled=True, resume=False,
                kick_fd=driver.kick_fd, call_fd=driver.call_fd,
            ))  # fmt: skip

    def stop(self) -> None:
        for ring in range(len(self.rings)):
            self.switch.ring_stop(self.port_id, ring)
        self._forget_rings()

    def _forget_rings(self) -> None:
        for ring in self.rings:
            ring.close()
        self.rings = []

    def close(self) -> None:
        self._forget_rings()
        self.ram.close()

    def exchange_memory(self) -> None:
        old, self.ram = self.ram, self.ram.moved()
        self.ram._next = old._next
        self.switch.vhost_mem(self.port_id, self.ram.table())
        for ring in self.rings:
            ring.ram = self.ram
        old.close()

    # ---- transmit ----

    def offer(self, data: bytes, rng: random.Random) -> None:
        """Queue one chain that holds the bytes, cut as chance wills."""
        ring = self.rings[TX_RING]
        n_cuts = min(len(data) - 1, rng.choice((0, 0, 1, 2, 5)))
        cuts = sorted(rng.sample(range(1, len(data)), n_cuts))
        parts = []
        for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
            gpa = self.tx_at + rng.randrange(8)
            self.ram.write(gpa, data[start:end])
            parts.append((gpa, end - start, False))
            self.tx_at = gpa + end - start
        if self.features & INDIRECT and rng.random() < 0.4:
            ring.add_indirect(parts, TABLES + 0x100 * ring.free[0])
        else:
            ring.add(parts)

    def room(self) -> bool:
        return self.rings[TX_RING].room() >= 6 and self.tx_at + 0x1_2000 < END

    def transmitted(self) -> list[tuple[int, int]]:
        """Chains that came back since the last look."""
        done = self.rings[TX_RING].take_used()
        self.tx_at = TX_AT
        return done

    # ---- receive ----

    def post(self, capacity: int, rng: random.Random) -> bool:
        """Post one chain of that many bytes; False if there is no slot or descriptor left."""
        ring = self.rings[RX_RING]
        free = [slot for slot in range(RX_SLOTS) if slot not in self.slots.values()]
        cuts = sorted(rng.sample(range(1, capacity), rng.choice((0, 0, 1, 3))))
        if not free or ring.room() < len(cuts) + 2:
            return False
        gpa = RX_AT + rng.choice(free) * RX_SLOT
        slot = (gpa - RX_AT) // RX_SLOT
        self.ram.write(gpa, b"\xaa" * RX_SLOT)
        gpa += rng.randrange(4)
        parts = [(gpa + start, end - start, True)
                 for start, end in zip([0, *cuts], [*cuts, capacity], strict=True)]
        head = ring.add(parts)
        self.slots[head], self.parts[head] = slot, parts
        return True

    def publish(self) -> None:
        for ring in self.rings:
            ring.publish()

    def received(self) -> list[bytes]:
        """What each chain that came back holds; nothing beside the chain was written.

        Behind a frame there may be bytes of one that did not fit.
        """
        out = []
        for head, written in self.rings[RX_RING].take_used():
            parts = self.parts.pop(head)
            data = b"".join(self.ram.read(gpa, length) for gpa, length, _ in parts)
            assert written <= len(data), "more bytes than the chain has"
            start = RX_AT + self.slots.pop(head) * RX_SLOT
            whole = self.ram.read(start, RX_SLOT)
            end = parts[0][0] + len(data) - start
            outside = whole[: parts[0][0] - start] + whole[end:]
            assert set(outside) <= {0xAA}, "bytes beside the chain were written"
            out.append(data[:written])
        return out


def offloads_of(features: int, sending: bool) -> int:
    return sum(meaning for sender, receiver, meaning in OFFLOAD_BITS
               if features >> (sender if sending else receiver) & 1)



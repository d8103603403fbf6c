# SPDX-License-Identifier: Apache-2.0
"""A switch as the design's forwarding model reads: dictionaries and lists, no rings.

``Model.send`` is one burst of one port; it returns nothing, but leaves what each receiver must get
in ``Port.expected`` and what must have been counted in ``Port.counts_in`` and ``counts_out``.
"""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import dataclass, field

from . import offloads
from .offloads import Request

UNTAGGED = 4096
LINK_LOCAL = bytes.fromhex("0180c20000")


@dataclass(slots=True)
class Port:
    """One port: what it is told, and what must come of it."""

    id: int
    max_frame: int = 1514
    quota: int = 256
    rows: dict[int, int] = field(default_factory=dict)  # tag to segment
    macs: set[bytes] = field(default_factory=set)
    takes: int = 0  # offloads as a receiver
    may_ask: int = 0  # offloads as a sender
    mergeable: bool = False
    hdr_len: int = 12
    up: bool = False
    buffers: list[int] = field(default_factory=list)  # capacity of each posted chain, in order
    expected: list[list[bytes]] = field(default_factory=list)  # frames, as bytes of each chain
    counts_in: Counter[str] = field(default_factory=Counter)
    counts_out: Counter[str] = field(default_factory=Counter)

    def tag_of(self, segment: int) -> int | None:
        return next((vid for vid, found in self.rows.items() if found == segment), None)


@dataclass(slots=True)
class Live:
    """A frame between classification and delivery, without its tag."""

    data: bytes
    request: Request
    segment: int
    priority: int


class Model:
    """All ports and the address table."""

    def __init__(self) -> None:
        self.ports: dict[int, Port] = {}
        self.learned: dict[tuple[int, bytes], int] = {}
        self.pinned: dict[tuple[int, bytes], int] = {}
        self.refused: set[tuple[int, bytes]] = set()  # what the last call wanted to pin

    # ---- what the control plane does ----

    def set_rows(self, port: Port, rows: dict[int, int]) -> bool:
        """False if an address pinned to the port belongs to another one in a new segment."""
        new = {(segment, mac) for segment in set(rows.values()) for mac in port.macs}
        if self._refuse(port, new):
            return False
        port.rows = dict(rows)
        for table in (self.learned, self.pinned):
            for key, where in list(table.items()):
                if where == port.id and key[0] not in rows.values():
                    del table[key]
        self._pin(port, new)
        return True

    def set_macs(self, port: Port, macs: set[bytes]) -> bool:
        new = {(segment, mac) for segment in set(port.rows.values()) for mac in macs}
        if self._refuse(port, new):
            return False
        for key, where in list(self.pinned.items()):
            if where == port.id and key not in new:
                del self.pinned[key]
        port.macs = set(macs)
        self._pin(port, new)
        return True

    def _refuse(self, port: Port, new: set[tuple[int, bytes]]) -> bool:
        self.refused = new
        return any(self.pinned.get(key, port.id) != port.id for key in new)

    def _pin(self, port: Port, keys: set[tuple[int, bytes]]) -> None:
        for key in keys:
            self.learned.pop(key, None)
            self.pinned[key] = port.id

    def delete(self, port: Port) -> None:
        self.set_macs(port, set())
        self.set_rows(port, {})
        del self.ports[port.id]

    # ---- a burst ----

    def send(self, port: Port, chains: list[bytes]) -> None:
        """Chains as they lie in the sender's memory: virtio-net header and frame."""
        taken = [found for found in (self._take(port, chain) for chain in chains) if found]
        live = [found for found in (self._classify(port, *entry) for entry in taken) if found]
        for frame in live:
            self._learn(port, frame.segment, frame.data[6:12])
        where = [self._resolve(port, frame) for frame in live]
        for frame, target in zip(live, where, strict=True):
            self._forward(port, frame, target)

    def _take(self, port: Port, chain: bytes) -> tuple[bytes, Request] | None:
        data = chain[port.hdr_len :]
        if len(data) > 65562:
            return self._drop(port.counts_in, "frame_long")
        if len(chain) < port.hdr_len:
            return self._drop(port.counts_in, "hdr_short")
        if len(data) < 14:
            return self._drop(port.counts_in, "frame_short")
        request = offloads.parse(chain[:10], len(data), port.may_ask)
        if isinstance(request, str):
            return self._drop(port.counts_in, request)
        room = port.max_frame + (4 if data[12:14] == b"\x81\x00" else 0)
        if not request.gso_type and len(data) > room:
            return self._drop(port.counts_in, "frame_long")
        port.counts_in["frames"] += 1
        port.counts_in["bytes"] += len(data)
        port.counts_in["gso"] += bool(request.gso_type)
        return data, request

    def _classify(self, port: Port, data: bytes, request: Request) -> Live | None:
        priority, vid = 0, UNTAGGED
        tagged = data[12:14] == b"\x81\x00"
        if tagged:
            if len(data) < 18:
                return self._drop(port.counts_in, "frame_short")
            (tci,) = struct.unpack_from(">H", data, 14)
            priority, vid = tci & 0xF000, (tci & 0xFFF) or UNTAGGED
        segment = port.rows.get(vid)
        if segment is None:
            return self._drop(port.counts_in, "no_segment" if vid == UNTAGGED else "vlan_unknown")
        if tagged:
            if request.flags and request.csum_start < 18:
                return self._drop(port.counts_in, "vnet_csum")
            data, request = data[:12] + data[16:], request.untagged()
        source, target = data[6:12], data[:6]
        if source[0] & 1 or source == bytes(6):
            return self._drop(port.counts_in, "src_invalid")
        if target[:5] == LINK_LOCAL and target[5] < 16:
            return self._drop(port.counts_in, "link_local")
        return Live(data, request, segment, priority)

    def _learn(self, port: Port, segment: int, source: bytes) -> None:
        key = (segment, source)
        if key in self.pinned or self.learned.get(key) == port.id:
            return
        if sum(where == port.id for where in self.learned.values()) < port.quota:
            self.learned[key] = port.id

    def _resolve(self, port: Port, frame: Live) -> Port | str | None:
        """The receiver, the name of a drop, or None: everybody."""
        key = (frame.segment, frame.data[:6])
        if frame.data[0] & 1:
            return None
        found = self.pinned.get(key, self.learned.get(key))
        if found == port.id:
            return "same_port"
        return self.ports[found] if found is not None else None

    def _forward(self, port: Port, frame: Live, target: Port | str | None) -> None:
        if isinstance(target, str):
            self._drop(port.counts_in, target)
        elif target:
            self._deliver(target, frame, False)
        else:
            others = [p for p in self.ports.values()
                      if p is not port and p.tag_of(frame.segment) is not None]
            if not others:
                self._drop(port.counts_in, "no_receiver")
                return
            port.counts_in["flooded"] += 1
            for other in others:
                self._deliver(other, frame, True)

    # ---- one receiver ----

    def _deliver(self, port: Port, frame: Live, flooded: bool) -> None:
        vid = port.tag_of(frame.segment)
        assert vid is not None
        if len(frame.data) > port.max_frame and not frame.request.gso_type:
            self._drop(port.counts_out, "mtu")
        elif vid == UNTAGGED and frame.data[12:14] == b"\x81\x00":
            self._drop(port.counts_out, "vlan_nested")
        elif not frame.request.needs() & ~port.takes:
            self._put(port, frame.data, frame.request, vid, frame.priority, flooded)
        else:
            self._deliver_fixed(port, frame, vid, flooded)

    def _deliver_fixed(self, port: Port, frame: Live, vid: int, flooded: bool) -> None:
        pieces: list[tuple[bytes, Request]] | None
        if frame.request.gso_type:
            partial = bool(port.takes & offloads.CSUM_OK)
            pieces = offloads.segment(frame.data, frame.request, partial)
        else:
            pieces = [(offloads.complete(frame.data, frame.request), Request())]
        if pieces is None:
            self._drop(port.counts_out, "offload")
            return
        if len(pieces[0][0]) > port.max_frame:
            self._drop(port.counts_out, "mtu")
            return
        for data, request in pieces:
            self._put(port, data, request, vid, frame.priority, flooded)
        port.counts_out["gso_fixed" if frame.request.gso_type else "csum_fixed"] += 1

    def _put(
        self, port: Port, data: bytes, request: Request, vid: int, priority: int, flooded: bool
    ) -> None:
        shift = 0
        if vid != UNTAGGED:
            shift = 4
            data = data[:12] + struct.pack(">HH", 0x8100, priority | vid) + data[12:]
        if not port.up:
            self._drop(port.counts_out, "link_down")
            return
        whole = request.wire(shift) + (b"\1\0" if port.hdr_len == 12 else b"") + data
        chains = self._fit(port, whole)
        if isinstance(chains, str):
            self._drop(port.counts_out, chains)
            return
        if len(chains) > 1:
            chains[0] = chains[0][:10] + struct.pack("<H", len(chains)) + chains[0][12:]
        del port.buffers[: len(chains)]
        port.expected.append(chains)
        port.counts_out["frames"] += 1
        port.counts_out["bytes"] += len(data)
        port.counts_out["flooded"] += flooded
        port.counts_out["gso"] += bool(request.gso_type)

    @staticmethod
    def _fit(port: Port, whole: bytes) -> list[bytes] | str:
        """The bytes of each chain it takes, in the order they were posted."""
        chains: list[bytes] = []
        for capacity in port.buffers:
            if chains and not port.mergeable:
                return "ring_small"
            chains.append(whole[:capacity])
            whole = whole[capacity:]
            if not whole:
                return chains
        return "ring_small" if chains and not port.mergeable else "ring_full"

    @staticmethod
    def _drop(counts: Counter[str], why: str) -> None:
        counts["drop " + why] += 1

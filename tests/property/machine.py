# SPDX-License-Identifier: Apache-2.0
"""The rules: what may happen to a switch, done to the library and to the model alike.

After every burst all bytes delivered, all chains returned, all counters and the address table of
the library are compared with the model's.  A life is its seed: everything is drawn from it.
"""

from __future__ import annotations

import errno
import random
from collections import Counter
from collections.abc import Callable

from vif_uswitch.dataplane.base import DataplaneRefused
from vif_uswitch.dataplane.layout import KIND_VHOST
from vif_uswitch.dataplane.live import QueueCounters
from vif_uswitch.dataplane.native import NativeSwitch
from vif_uswitch.dataplane.statepage import StatePage

from . import frames, guest
from .model import UNTAGGED, Model, Port

PORTS = 4
SEGMENTS = (1, 2, 3)
VIDS = (UNTAGGED, 1, 5, 100, 4094)
# The longest that leaves room for a tag in what a chain may hold.
MAX_FRAME = 65558
# A queue that shares its worker may get a frame a turn, and no turn for a while.
TURNS = 1000


class Life:
    """One switch, up to ``PORTS`` ports, and what happens to them."""

    def __init__(self, seed: int, model: Model | None = None) -> None:
        self.rng = random.Random(seed)
        self.switch = NativeSwitch()
        self.model = model or Model()
        self.guests: dict[int, guest.Guest] = {}
        self.pages: dict[int, StatePage] = {}
        self.frames = 0  # delivered and compared
        self.did: list[str] = []

    def close(self) -> None:
        for driver in self.guests.values():
            driver.close()
        self.switch.close()
        for page in self.pages.values():
            page.close()

    def live(self, steps: int) -> None:
        rules: list[Callable[[int], None]] = [
            self.add, self.delete, self.rows, self.macs, self.limits, self.start, self.link,
            self.post, self.exchange_memory, *[self.traffic] * 5,
        ]  # fmt: skip
        self.three_guests()
        for _ in range(steps):
            rule, port_id = self.rng.choice(rules), self.rng.randrange(PORTS)
            self.did.append(f"{rule.__name__}({port_id})")
            rule(port_id)
            self._same_addresses()

    # ---- the control plane ----

    def three_guests(self) -> None:
        for port_id in (0, 1, 2):
            self.add(port_id)
            self._set_rows(port_id, {UNTAGGED: 1, 5: 2})
            self.start(port_id)

    def add(self, port_id: int) -> None:
        if port_id in self.model.ports:
            return
        rng = self.rng
        port = Port(port_id, rng.choice((1514, 1514, 600, 9014, MAX_FRAME)), rng.choice((256, 2)))
        self.pages[port_id] = StatePage.make(port_id)
        self.switch.port_add(port_id, KIND_VHOST, state_fd=self.pages[port_id].fd,
                             fdb_quota=port.quota, max_frame=port.max_frame)
        self.model.ports[port_id] = port
        self.guests[port_id] = guest.Guest(self.switch, port_id)

    def delete(self, port_id: int) -> None:
        if port_id in self.model.ports and len(self.model.ports) > 2:
            self.switch.port_del(port_id)
            self.model.delete(self.model.ports[port_id])
            self.guests.pop(port_id).close()
            self.pages.pop(port_id).close()

    def rows(self, port_id: int) -> None:
        vids = self.rng.sample(VIDS, self.rng.randrange(4))
        self._set_rows(port_id, dict(zip(vids, self.rng.sample(SEGMENTS, 3), strict=False)))

    def _set_rows(self, port_id: int, rows: dict[int, int]) -> None:
        port = self.model.ports.get(port_id)
        if port:
            self._both(self.model.set_rows(port, rows),
                       lambda: self.switch.port_tags(port_id, list(rows.items())))

    def macs(self, port_id: int) -> None:
        port = self.model.ports.get(port_id)
        macs = set(self.rng.sample(frames.HOSTS, self.rng.randrange(3)))
        if port:
            self._both(self.model.set_macs(port, macs),
                       lambda: self.switch.port_macs(port_id, sorted(macs)))

    def _both(self, allowed: bool, call: Callable[[], None]) -> None:
        try:
            call()
        except DataplaneRefused as refused:
            assert refused.errno == errno.EEXIST and not allowed, f"refused: {refused}"
            # Pinned and let go again: where such an address was learned may be forgotten.
            learned, _ = self._addresses()
            for key in self.model.refused - set(learned):
                self.model.learned.pop(key, None)
        else:
            assert allowed, "the library took what the model refuses"

    def limits(self, port_id: int) -> None:
        port = self.model.ports.get(port_id)
        quota, most = self.rng.choice((0, 1, 3, 256)), self.rng.choice((60, 1514, 9014))
        if port:
            port.quota, port.max_frame = quota, most
            self.switch.port_limits(port_id, fdb_quota=quota, max_frame=most)

    # ---- the guests' side ----

    def start(self, port_id: int) -> None:
        """(Re)start both rings with other features."""
        if port_id not in self.model.ports:
            return
        port, driver, rng = self.model.ports[port_id], self.guests[port_id], self.rng
        self.stop(port_id)
        features = sum(1 << bit for bit in (0, 1, 7, 8, 9, 11, 12, 13, 15, 28, 32)
                       if rng.random() < 0.7)
        features |= guest.PACKED if rng.random() < 0.4 else 0
        driver.start(features)
        port.takes = guest.offloads_of(features, sending=False)
        port.may_ask = guest.offloads_of(features, sending=True)
        port.mergeable = bool(features & guest.MERGEABLE)
        port.hdr_len = 12 if features & (guest.VERSION_1 | guest.MERGEABLE) else 10
        port.up, port.buffers = True, []
        self.post(port_id)

    def stop(self, port_id: int) -> None:
        if port_id in self.model.ports:
            self.guests[port_id].stop()
            self.model.ports[port_id].up = False

    def link(self, port_id: int) -> None:
        """Enable or disable the receive ring, or (None) stop both."""
        up = self.rng.choice((True, True, False, None))
        if up is None:
            self.stop(port_id)
        elif port_id in self.model.ports and self.guests[port_id].rings:
            self.switch.ring_enable(port_id, guest.RX_RING, up)
            self.model.ports[port_id].up = up

    def post(self, port_id: int) -> None:
        """Offer receive buffers."""
        if port_id not in self.model.ports or not self.guests[port_id].rings:
            return
        port, driver, rng = self.model.ports[port_id], self.guests[port_id], self.rng
        size = rng.choice((64, 300, 1526, 2048, 9216, 16000))
        for _ in range(rng.randrange(40)):
            capacity = size if rng.random() < 0.8 else rng.randrange(40, 4000)
            if not driver.post(capacity, rng):
                break
            port.buffers.append(capacity)
        driver.publish()

    def exchange_memory(self, port_id: int) -> None:
        if port_id in self.model.ports:
            self.guests[port_id].exchange_memory()

    def traffic(self, _: int) -> None:
        """Bursts of several ports, with buffers offered in between."""
        ready = [port_id for port_id, driver in self.guests.items() if driver.rings]
        for _ in range(self.rng.randrange(1, 16) if ready else 0):
            for _ in range(self.rng.randrange(3)):
                self.post(self.rng.choice(ready))
            self.burst(self.rng.choice(ready))

    def burst(self, port_id: int) -> None:
        """One port sends; then everything is compared.

        How many chains the library takes in one turn is the worker's business, and what is known
        of addresses depends on it: what came back in a turn is what the model sends at once.
        """
        port, driver = self.model.ports[port_id], self.guests[port_id]
        chains = []
        for _ in range(self.rng.choice((1, 2, 5, 12))):
            if driver.room():
                chains.append(frames.chain(self.rng, port))
                driver.offer(chains[-1], self.rng)
        driver.publish()
        sent = 0
        for _ in range(TURNS):
            self.switch.poll()
            back = driver.transmitted()
            assert all(written == 0 for _, written in back), f"port {port_id}: written to"
            self.model.send(port, chains[sent : sent + len(back)])
            sent += len(back)
            if sent >= len(chains):
                break
        assert sent == len(chains), f"port {port_id}: {sent} of {len(chains)} chains came back"
        for receiver in self.model.ports.values():
            self._compare(receiver)

    # ---- what must agree ----

    def _compare(self, port: Port) -> None:
        driver, page = self.guests[port.id], self.pages[port.id]
        got = driver.received() if driver.rings else []
        assert got == [chain for frame in port.expected for chain in frame], f"port {port.id}"
        self.frames += len(port.expected)
        port.expected.clear()
        assert page.broken() is None
        self._same_counters(port, "in", counted(page.incoming()), +port.counts_in)
        self._same_counters(port, "out", counted(page.outgoing()), +port.counts_out)

    @staticmethod
    def _same_counters(port: Port, side: str, got: Counter[str], want: Counter[str]) -> None:
        assert got == want, f"port {port.id} {side}: library {got - want} more, model {want - got}"

    def _addresses(self) -> tuple[dict[tuple[int, bytes], int], dict[tuple[int, bytes], int]]:
        learned: dict[tuple[int, bytes], int] = {}
        pinned: dict[tuple[int, bytes], int] = {}
        for mac, segment, port_id, _, fixed in self.switch.fdb_dump():
            (pinned if fixed else learned)[segment, mac] = port_id
        return learned, pinned

    def _same_addresses(self) -> None:
        learned, pinned = self._addresses()
        for what, got, want in (("learned", learned, self.model.learned),
                                ("pinned", pinned, self.model.pinned)):
            unlike = got.items() ^ want.items()
            assert not unlike, f"{what} by either alone: {sorted(unlike)}"


def counted(counters: QueueCounters) -> Counter[str]:
    """Without what depends on how the worker cuts bursts."""
    names = ("frames", "bytes", "flooded", "gso", "csum_fixed", "gso_fixed")
    found = Counter({name: getattr(counters, name) for name in names})
    found.update({"drop " + name: n for name, n in counters.drops.items()})
    return +found

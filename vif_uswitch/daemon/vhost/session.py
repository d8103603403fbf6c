# SPDX-License-Identifier: Apache-2.0
"""One vhost-user negotiation, as policy: a message comes in, actions and a reply come out.

``Session.handle()`` is a generator.  It yields what is to be done with the
dataplane or the escrow, gets back what came of it, and returns the reply.
``port.py`` is the shell that performs the actions; nothing here does
I/O, except closing file descriptors that the session owns.

The session's records are also the memory of what a new dataplane must be told
(``replay()``) and of what the next uswitchd must know (``entry()``).

Who breaks the protocol gets a ``Violation``: the session ends.  What is
merely not possible is refused: with a reply where the peer asked for one,
else by ending the session, because both sides now believe different things.
Only a request that we do not serve at all is passed over with a note.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable

import msgspec

from vif_uswitch.daemon.escrow import (
    SLOT_LOG,
    SLOT_MEMORY,
    SLOT_RING,
    SLOT_SESSION,
    LogRecord,
    MemoryRecord,
    Record,
    RegionRecord,
    RingRecord,
    SessionRecord,
)
from vif_uswitch.daemon.vhost import features as virtio
from vif_uswitch.daemon.vhost import msg
from vif_uswitch.daemon.vhost.actions import (
    Announce,
    EnableRing,
    Note,
    Part,
    Refused,
    Save,
    SetCall,
    SetLog,
    SetMemory,
    StartRing,
    Steps,
    StopRing,
    Tolerable,
)
from vif_uswitch.daemon.vhost.arrival import Arrival
from vif_uswitch.daemon.vhost.dirty import LogFile, check_covers, claim_log, in_force
from vif_uswitch.daemon.vhost.fds import Fds, Unfit, check_eventfd
from vif_uswitch.daemon.vhost.msg import Message, Request, Violation
from vif_uswitch.daemon.vhost.ring import EVENTFDS, Ring, claim, close_regions, covers
from vif_uswitch.dataplane.base import DataplaneRefused, DirtyLog, MemRegion, RingSetup

RINGS_MAX = 16  # US_RINGS_MAX
MEM_SLOTS = 64  # US_REGIONS_MAX
RING_SIZE_MAX = 32768  # US_RING_SIZE_MAX
BASE_FROM_USED = 0x10000  # US_BASE_FROM_USED
MTU_MIN = 68


class Session:
    """What one peer has negotiated.  ``offered``: feature bits; ``mtu``, ``queues``: the port's."""

    def __init__(
        self, offered: int, mtu: int, queues: int = 1, peer_pid: int | None = None
    ) -> None:
        self.offered = offered
        self.mtu = mtu
        self.record = SessionRecord(peer_pid=peer_pid, queue_pairs=queues)
        self.memory: tuple[MemRegion, ...] = ()
        self.log: LogFile | None = None
        self.arrival = Arrival()
        self._recording: DirtyLog | None = None  # what the dataplane was told of it
        self.rings = [Ring(i) for i in range(RINGS_MAX)]
        self._dirty: set[int] = set()
        self._used = {SLOT_SESSION, SLOT_MEMORY}

    def close(self) -> None:
        """Closes every file descriptor of the session."""
        self._forget_memory()
        self._forget_log()
        for ring in self.rings:
            ring.close()

    def enabled(self, ring: Ring) -> bool:
        """Without PROTOCOL_FEATURES rings start enabled, with it SET_VRING_ENABLE says so."""
        if ring.record.enabled is not None:
            return ring.record.enabled
        return not self.record.features & virtio.PROTOCOL_FEATURES

    @property
    def packed(self) -> bool:
        """The layout of the rings (virtio 1.2, §2.7 split, §2.8 packed)."""
        return bool(self.record.features & virtio.RING_PACKED)

    @property
    def split(self) -> bool:
        """Known to be split.  Until SET_FEATURES a ring is told of without its layout; what only
        one layout may have is looked at when the ring starts."""
        return self.record.features_set and not self.packed

    @property
    def running(self) -> bool:
        """Whether frames can flow both ways: how many of its queues a guest uses is its choice."""
        up = {r.index % 2 for r in self.rings if r.record.active and self.enabled(r)}
        return len(up) == 2

    @property
    def rings_used(self) -> list[Ring]:
        """Those that the peer ever spoke of."""
        return [ring for ring in self.rings if SLOT_RING + ring.index in self._used]

    # ---- escrow and replay ----

    @property
    def slots(self) -> tuple[int, ...]:
        """The slots of the escrow that the session has."""
        return tuple(sorted(self._used))

    def claim_all(self) -> None:
        """What is in the escrow is not to be trusted: the session may have any ring."""
        self._used.update(SLOT_RING + ring.index for ring in self.rings)
        self._used.add(SLOT_LOG)

    def entry(self, slot: int) -> tuple[Record, tuple[int, ...]]:
        """What belongs into a slot; the connection's fd is added by who owns it."""
        if slot == SLOT_SESSION:
            return self.record, ()
        if slot == SLOT_MEMORY:
            rows = (RegionRecord(r.gpa, r.size, r.uva, r.mmap_offset) for r in self.memory)
            return MemoryRecord(tuple(rows)), tuple(r.fd for r in self.memory)
        if slot == SLOT_LOG:
            if self.log is None:
                return LogRecord(), ()
            return LogRecord(self.log.area.size, self.log.area.offset), (self.log.fd,)
        ring = self.rings[slot - SLOT_RING]
        return ring.record, ring.fds()

    def restore_memory(self, record: MemoryRecord, fds: Fds) -> None:
        if len(record.regions) != len(fds) or len(fds) > MEM_SLOTS:
            raise ValueError(f"{len(record.regions)} regions with {len(fds)} fds")
        rows = zip(record.regions, fds.take_all(), strict=True)
        self.memory = tuple(MemRegion(r.gpa, r.size, r.uva, r.mmap_offset, fd) for r, fd in rows)

    def restore_log(self, record: LogRecord, fds: Fds) -> None:
        if len(fds) != (record.size > 0):
            raise ValueError(f"a dirty log of {record.size} bytes with {len(fds)} fds")
        fd = fds.take_one()
        if fd is not None:
            self.log = LogFile(msg.Log(record.size, record.offset), fd)
            self._used.add(SLOT_LOG)

    def restored(self) -> None:
        """Everything is back; the dataplane was told of it by an earlier uswitchd."""
        self._recording = in_force(self.record.features, self.log, self.rings)
        self.arrival.settled = self.running

    def restore_ring(self, index: int, record: RingRecord, fds: Fds) -> None:
        names = [n for n in EVENTFDS if getattr(record, f"has_{n}")]
        if not 0 <= index < 2 * self.record.queue_pairs or len(names) != len(fds):
            raise ValueError(f"ring {index} with {len(fds)} fds")
        ring = self.rings[index]
        for name, fd in zip(names, fds.take_all(), strict=True):
            ring.swap(name, fd)
        ring.record = record
        self._used.add(SLOT_RING + index)

    def replay(self) -> Part:
        """What a new dataplane has to do.  Rings go on where the guest saw the last one end."""
        if self.memory:
            yield SetMemory(self.memory)
        if self._recording is not None:
            yield SetLog(self._recording)
        for ring in self.rings:
            if ring.record.active:
                yield StartRing(self._setup(ring, BASE_FROM_USED))

    # ---- messages ----

    def handle(self, message: Message, fds: Fds) -> Steps:
        """``fds`` belong to the caller, who closes what has not been taken."""
        failed = False
        reply = None
        try:
            reply = yield from self._dispatch(message, fds)
        except (Refused, Unfit, DataplaneRefused) as error:
            text = f"{message.name} refused: {error}"
            answerable = message.need_reply or isinstance(error, Tolerable)
            if message.own_reply or not answerable:
                raise Violation(text) from error
            yield Note(text)
            failed = True
        if self._dirty:
            slots, self._dirty = tuple(sorted(self._dirty)), set()
            self._used.update(slots)
            yield Save(slots)
        if reply is None and message.need_reply:
            return msg.reply_number(message.request, int(failed))
        return reply

    def _dispatch(self, message: Message, fds: Fds) -> Steps:
        body, request = message.body, message.request
        if request in _ANSWERS:
            return msg.reply_number(request, _ANSWERS[Request(request)](self))
        if isinstance(body, msg.Number):
            yield from _NUMBERS[Request(request)](self, body.value)
        elif isinstance(body, msg.VringState):
            return (yield from self._vring_state(request, self._ring(body.index), body.num))
        elif isinstance(body, msg.VringAddr):
            yield from self._set_addr(self._ring(body.index), body)
        elif isinstance(body, msg.VringFd):
            yield from self._set_fd(request, self._ring(body.index), fds)
        elif isinstance(body, msg.Table):
            yield from self._swap_memory(claim(body.regions, fds))
        elif isinstance(body, msg.Region):
            yield from self._edit_memory(request, body, fds)
        elif isinstance(body, msg.Log):
            return (yield from self._set_log_base(body, fds))
        elif request == Request.SET_LOG_FD:
            self._check_log_fd(fds)
        elif request in _RESETS:
            yield from _RESETS[Request(request)](self)
        elif request != Request.SET_OWNER:
            raise Tolerable("not offered by this switch")
        return None

    def _ring(self, claimed_index: int) -> Ring:
        rings = 2 * self.record.queue_pairs
        if claimed_index >= rings:
            raise Refused(f"ring {claimed_index} of {rings}, see uswitchctl port set --queues")
        return self.rings[claimed_index]

    # ---- features and device state ----

    def _set_record(self, **changes: object) -> None:
        self.record = msgspec.structs.replace(self.record, **changes)
        self._dirty.add(SLOT_SESSION)

    def _set_features(self, value: int) -> Part:
        if value & ~self.offered:
            raise Refused(f"features {value & ~self.offered:#x} were not offered")
        if self.record.features_set and value == self.record.features:
            return
        yield from self._record_as(value, self.log)  # may refuse: before anything else changes
        changed = self.record.features ^ value
        stopped = [r for r in self.rings if r.record.active] if changed & ~virtio.LOG_ALL else []
        for ring in stopped:
            yield from self._stop(ring)
        self._set_record(features=value, features_set=True)
        yield from self._start_those_ready(self.rings if changed & virtio.LOG_ALL else stopped)

    def _set_protocol_features(self, value: int) -> Part:
        if value & ~virtio.PROTOCOL_OFFERED:
            extra = value & ~virtio.PROTOCOL_OFFERED
            raise Refused(f"protocol features {extra:#x} were not offered")
        self._set_record(protocol_features=value)
        yield from ()

    def _set_mtu(self, value: int) -> Part:
        if not MTU_MIN <= value <= self.mtu:
            raise Refused(f"MTU {value}: the port's is {self.mtu}, see uswitchctl port set")
        yield from ()

    def _set_status(self, value: int) -> Part:
        if value > 0xFF:
            raise Refused(f"device status {value:#x}")
        if value == 0:  # virtio 1.2 §2.1: reset
            yield from self._stop_all()
        if value & virtio.STATUS_FEATURES_OK and not self.record.features_set:
            value &= ~virtio.STATUS_FEATURES_OK
        if value != self.record.status:
            self._set_record(status=value)

    def _reset_device(self) -> Part:
        """Back to the start, but for memory and protocol features: the front-end keeps those."""
        yield from self._stop_all()
        for ring in self.rings_used:
            ring.close()
            ring.record = RingRecord()
            self._dirty.add(SLOT_RING + ring.index)
        self._set_record(features=0, features_set=False, status=0)
        yield from self._record_as(0, self.log)

    # ---- rings ----

    def _vring_state(self, request: int, ring: Ring, num: int) -> Steps:
        if request == Request.GET_VRING_BASE:
            yield from self._stop(ring)
            yield from self._unkick(ring)
            base = ring.record.base
            # A packed ring's position has two halves, avail and used; nothing is in flight now.
            return msg.reply_vring(request, ring.index, base << 16 | base if self.packed else base)
        if request == Request.SET_VRING_ENABLE:
            yield from self._enable(ring, num)
        elif request == Request.SET_VRING_NUM:
            if not 2 <= num <= RING_SIZE_MAX or (num & (num - 1) and self.split):
                raise Refused(
                    f"ring size {num} is not a power of two (packed rings: any number) "
                    f"from 2 to {RING_SIZE_MAX}"
                )
            yield from self._change(ring, size=num)
        else:
            if num > 0xFFFF and self.split:
                raise Refused(f"ring base {num:#x}")
            yield from self._change(ring, base=num & 0xFFFF)
        return None

    def _set_addr(self, ring: Ring, addr: msg.VringAddr) -> Part:
        if addr.flags & ~msg.VRING_F_LOG:
            raise Refused(f"ring address flags {addr.flags:#x}")
        avail = 4 if self.packed else 2  # virtio 1.2 §2.7, §2.8.10.1
        if addr.desc % 16 or addr.avail % avail or addr.used % 4:
            raise Refused(
                f"ring {ring.index} is not aligned: descriptors {addr.desc:#x}, "
                f"avail {addr.avail:#x}, used {addr.used:#x}"
            )
        yield from self._change(
            ring, addressed=True, desc_uva=addr.desc, avail_uva=addr.avail, used_uva=addr.used
        )
        yield from self._log_ring(ring, bool(addr.flags & msg.VRING_F_LOG), addr.log)

    def _set_fd(self, request: int, ring: Ring, fds: Fds) -> Part:
        for fd in fds:
            check_eventfd(fd)
        self._dirty.add(SLOT_RING + ring.index)
        if request == Request.SET_VRING_ERR:
            ring.swap("err", fds.take_one())
        elif request == Request.SET_VRING_CALL:
            ring.swap("call", fds.take_one())
            if ring.record.active:
                yield SetCall(ring.index, ring.call)
        else:
            yield from self._stop(ring)
            ring.swap("kick", fds.take_one())
            ring.update(kicked=True)
            yield from self._start_if_ready(ring)

    def _enable(self, ring: Ring, num: int) -> Part:
        if num > 1:
            raise Refused(f"SET_VRING_ENABLE with {num}")
        before = self.enabled(ring)
        if ring.record.enabled != bool(num):
            ring.update(enabled=bool(num))
            self._dirty.add(SLOT_RING + ring.index)
        if ring.record.active and before != bool(num):
            yield EnableRing(ring.index, bool(num))
            yield from self._announce_arrival()

    def _change(self, ring: Ring, **changes: object) -> Part:
        """New geometry; a running ring is stopped, and started again with it."""
        if all(getattr(ring.record, name) == value for name, value in changes.items()):
            return
        yield from self._stop(ring)
        ring.update(**changes)
        self._dirty.add(SLOT_RING + ring.index)
        yield from self._start_if_ready(ring)

    def _setup(self, ring: Ring, base: int) -> RingSetup:
        """Whoever served the ring before, in another session even, may have died before it told
        the guest what it had done, and a guest that waits for that is told of nothing later."""
        r = ring.record
        return RingSetup(
            ring=ring.index, size=r.size, base=base,
            features=self.record.features & ~virtio.LOG_ALL,
            desc_uva=r.desc_uva, avail_uva=r.avail_uva, used_uva=r.used_uva,
            enabled=self.enabled(ring), resume=True, kick_fd=ring.kick, call_fd=ring.call,
        )  # fmt: skip

    def _start_if_ready(self, ring: Ring) -> Part:
        """Starts a ring that has all it needs; Tolerable if it cannot run as it is."""
        if ring.record.active or not ring.ready or not self.memory:
            return
        if self.record.features & virtio.LOG_ALL and self.log is None:
            # A front-end that connects again in the middle of a migration says so before it brings
            # the log: what went into the guest until then would be lost on the other host.
            yield Note(f"ring {ring.index} waits for the dirty log")
            return
        if not covers(self.memory, ring.record, self.packed):
            raise Tolerable(f"ring {ring.index} lies outside of guest memory")
        try:
            yield StartRing(self._setup(ring, ring.record.base))
        except DataplaneRefused as error:
            raise Tolerable(f"ring {ring.index} does not start: {error}") from error
        ring.update(active=True)
        self._dirty.add(SLOT_RING + ring.index)
        self.arrival.ring_starts(ring.record.base, self.packed)
        yield from self._announce_arrival()

    def _start_those_ready(self, rings: Iterable[Ring]) -> Part:
        """After a change of something else, whose success does not depend on the rings."""
        for ring in rings:
            try:
                yield from self._start_if_ready(ring)
            except Tolerable as error:
                yield Note(str(error))

    def _stop(self, ring: Ring) -> Part:
        if not ring.record.active:
            return
        base = yield StopRing(ring.index)
        ring.update(active=False, base=base)
        self._dirty.add(SLOT_RING + ring.index)

    def _unkick(self, ring: Ring) -> Part:
        """The ring stays down until the next SET_VRING_KICK."""
        if ring.record.kicked:
            ring.swap("kick", None)
            ring.update(kicked=False)
            self._dirty.add(SLOT_RING + ring.index)
        yield from ()

    def _stop_all(self) -> Part:
        for ring in self.rings:
            yield from self._stop(ring)
            yield from self._unkick(ring)

    # ---- memory ----

    def _edit_memory(self, request: int, region: msg.Region, fds: Fds) -> Part:
        if request == Request.ADD_MEM_REG:
            if len(self.memory) >= MEM_SLOTS:
                raise Refused(f"all {MEM_SLOTS} memory slots are in use")
            try:
                known = tuple(msg.Region(r.gpa, r.size, r.uva, r.mmap_offset) for r in self.memory)
                msg.check_apart(region, known)
            except Violation as error:
                raise Refused(str(error)) from None
            yield from self._swap_memory(self.memory + claim((region,), fds))
            return
        place = (region.gpa, region.size, region.uva)
        kept = tuple(r for r in self.memory if (r.gpa, r.size, r.uva) != place)
        if len(kept) == len(self.memory):
            raise Refused(f"no memory region at gpa {region.gpa:#x}")
        yield from self._swap_memory(kept)

    def _swap_memory(self, regions: tuple[MemRegion, ...]) -> Part:
        """Installs a table; running rings move over, those left outside of it stop first."""
        try:
            if self._recording is not None:
                check_covers(self._recording, regions, self.rings)
            for ring in self.rings:
                if ring.record.active and not covers(regions, ring.record, self.packed):
                    yield from self._stop(ring)
            yield SetMemory(regions)
        except BaseException:
            close_regions(regions, keep=self.memory)
            raise
        old, self.memory = self.memory, regions
        close_regions(old, keep=regions)
        self._dirty.add(SLOT_MEMORY)
        yield from self._start_those_ready(self.rings)

    def _forget_memory(self) -> None:
        close_regions(self.memory, keep=())
        self.memory = ()


    # ---- live migration ----

    def _record_as(self, features: int, log: LogFile | None) -> Part:
        """Has the dataplane record dirty pages as these demand; Refused leaves it as it was."""
        wanted = in_force(features, log, self.rings)
        if wanted == self._recording:
            return
        if wanted is not None:
            check_covers(wanted, self.memory, self.rings)
        yield SetLog(wanted)
        self._recording = wanted

    def _set_log_base(self, area: msg.Log, fds: Fds) -> Steps:
        if not self.record.protocol_features & virtio.LOG_SHMFD:
            raise Refused("the protocol feature LOG_SHMFD was not negotiated")
        log = claim_log(area, fds)
        try:
            yield from self._record_as(self.record.features, log)
        except BaseException:
            log.close()
            raise
        self._forget_log()
        self.log = log
        self._dirty.add(SLOT_LOG)
        yield from self._start_those_ready(self.rings)
        return msg.reply_number(Request.SET_LOG_BASE, 0)

    def _log_ring(self, ring: Ring, logged: bool, gpa: int) -> Part:
        """Whether and where writes to a used ring are recorded; the ring itself does not stop."""
        before = ring.record
        ring.update(log_used=logged, log_gpa=gpa if logged else 0)
        if ring.record == before:
            return
        try:
            yield from self._record_as(self.record.features, self.log)
        except BaseException:
            ring.record = before
            raise
        self._dirty.add(SLOT_RING + ring.index)

    def _check_log_fd(self, fds: Fds) -> None:
        """An eventfd to say that the log changed.  Optional, and QEMU looks by itself: not kept."""
        for fd in fds:
            check_eventfd(fd)

    def _send_rarp(self, value: int) -> Part:
        mac = value.to_bytes(8, sys.byteorder)[:6]
        if not self.record.protocol_features & virtio.RARP:
            raise Tolerable("the protocol feature RARP was not negotiated")
        if mac[0] & 1 or not any(mac):
            raise Tolerable(f"{mac.hex(':')} is no address of a single station")
        if not any(ring.record.active for ring in self.rings):
            self.arrival.ask(mac)  # nothing can come from the port yet
            return
        try:
            yield Announce(mac)
        except DataplaneRefused as error:
            raise Tolerable(f"{mac.hex(':')} is not announced: {error}") from error

    def _announce_arrival(self) -> Part:
        """Once frames can flow.  Whether it can be announced is not the rings' concern."""
        for mac in self.arrival.take() if self.running else ():
            try:
                yield Announce(mac)
            except DataplaneRefused as error:
                yield Note(f"{mac.hex(':')} is not announced: {error}")

    def _forget_log(self) -> None:
        if self.log is not None:
            self.log.close()
        self.log = None


_ANSWERS: dict[Request, Callable[[Session], int]] = {
    Request.GET_FEATURES: lambda s: s.offered,
    Request.GET_PROTOCOL_FEATURES: lambda s: virtio.PROTOCOL_OFFERED,
    Request.GET_QUEUE_NUM: lambda s: s.record.queue_pairs,
    Request.GET_MAX_MEM_SLOTS: lambda s: MEM_SLOTS,
    Request.GET_STATUS: lambda s: s.record.status,
}

_RESETS: dict[Request, Callable[[Session], Part]] = {
    Request.RESET_OWNER: Session._stop_all,
    Request.RESET_DEVICE: Session._reset_device,
}

_NUMBERS: dict[Request, Callable[[Session, int], Part]] = {
    Request.SET_FEATURES: Session._set_features,
    Request.SET_PROTOCOL_FEATURES: Session._set_protocol_features,
    Request.SEND_RARP: Session._send_rarp,
    Request.NET_SET_MTU: Session._set_mtu,
    Request.SET_STATUS: Session._set_status,
}

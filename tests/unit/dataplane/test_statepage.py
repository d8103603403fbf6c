# SPDX-License-Identifier: Apache-2.0
"""State pages: made, sealed, read, and refused when they are something else."""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Iterator
from typing import Any

import pytest

from vif_uswitch.dataplane import statepage
from vif_uswitch.dataplane.live import NicLive, QueueLive
from vif_uswitch.dataplane.native import constant, ffi
from vif_uswitch.dataplane.statepage import BadPage, StatePage, SwitchPage


@pytest.fixture(autouse=True)
def nothing_leaks() -> Iterator[None]:
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) == before


def write(fd: int, kind: str, change: Any) -> None:
    """What the dataplane does to a page."""
    with mmap.mmap(fd, os.fstat(fd).st_size) as memory:
        view = ffi.from_buffer("char[]", memory, require_writable=True)
        change(ffi.cast(f"struct {kind} *", view))
        ffi.release(view)


def test_structs_fit_their_pages() -> None:
    assert ffi.sizeof("struct us_state_page") <= statepage.PAGE_SIZE
    assert ffi.sizeof("struct us_switch_page") <= statepage.SWITCH_PAGE_SIZE


def test_a_fresh_page() -> None:
    page = StatePage.make(5)
    assert not page.busy
    assert page.broken() is None
    assert page.incoming().frames == 0
    assert page.incoming().drops == {}
    seals = fcntl.fcntl(page.fd, fcntl.F_GET_SEALS)
    assert seals & (fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL) == 7
    with pytest.raises(OSError):
        os.ftruncate(page.fd, 0)
    page.close()
    page.close()


def test_what_the_dataplane_writes_is_read() -> None:
    page = StatePage.make(5)

    def change(p: Any) -> None:
        p.broken, p.broken_ring, p.broken_detail = 2, 1, 0xBEEF
        p.ring[1].last_avail, p.ring[1].used_idx = 65535, 65530
        p.ring[1].active, p.ring[1].size = 1, 256
        for queue in (0, 7):
            getattr(p, "in")[queue].frames = 1 << 40
            getattr(p, "in")[queue].drop[3] = 4
            p.out[queue].signals = 5

    write(page.fd, "us_state_page", change)
    broken = page.broken()
    assert broken is not None
    assert (broken.ring, broken.detail) == (1, 0xBEEF)
    ring = page.ring(1, enabled=True)
    assert (ring.last_avail, ring.used_idx, ring.active, ring.size) == (65535, 65530, True, 256)
    assert page.next_avail(1) == 65530
    assert page.incoming().frames == 2 << 40
    assert list(page.incoming().drops.values()) == [8]
    assert (page.outgoing().signals, page.outgoing().frames) == (10, 0)
    page.close()


def test_an_adapter_is_read() -> None:
    page = StatePage.make(5)
    assert page.nic() is None

    def change(p: Any) -> None:
        p.nic.driver = b"igb"
        p.nic.pci_vendor, p.nic.pci_device, p.nic.mac = 0x8086, 0x10C9, b"\x52\x54\0\0\0\1"
        p.nic.link_up, p.nic.speed_mbps, p.nic.full_duplex, p.nic.n_queues = 1, 1000, 1, 4
        p.nic.resets, p.nic.link_changes, p.nic.pool_bytes = 2, 3, 1 << 40
        p.nic.counter = [constant("US_NIC_COUNTER_NONE")] * len(p.nic.counter)
        p.nic.counter[0], p.nic.counter[2] = 1 << 50, 0

    write(page.fd, "us_state_page", change)
    assert page.nic() == NicLive(
        "igb", (0x8086, 0x10C9), b"\x52\x54\0\0\0\1", True, 1000, True, 4, 2, 3, 1 << 40,
        {"rx_packets": 1 << 50, "rx_missed": 0},
    )  # fmt: skip
    page.close()


def test_busy_is_seen_by_the_next_reader() -> None:
    page = StatePage.make(5)
    other = StatePage(os.dup(page.fd), 5)
    page.busy = True
    assert other.busy is page.busy is True
    write(page.fd, "us_state_page", lambda p: setattr(p, "broken_ring", 3))
    page.busy = False
    assert (other.busy, page.busy) == (False, False)
    page.close()
    other.close()


def test_other_things_are_no_state_page() -> None:
    good = statepage.create(5)
    with pytest.raises(BadPage, match="port"):
        StatePage(os.dup(good), 6)
    write(good, "us_state_page", lambda p: setattr(p, "version", 99))
    with pytest.raises(BadPage, match="99"):
        StatePage(os.dup(good), 5)
    os.close(good)
    unsealed = os.memfd_create("x", os.MFD_ALLOW_SEALING)
    os.ftruncate(unsealed, statepage.PAGE_SIZE)
    with pytest.raises(BadPage):
        StatePage(os.dup(unsealed), 5)
    os.ftruncate(unsealed, 100)
    fcntl.fcntl(unsealed, fcntl.F_ADD_SEALS, statepage.SIZE_SEALS)
    with pytest.raises(BadPage):
        StatePage(unsealed, 5)
    with pytest.raises(BadPage, match="memfd"):
        StatePage(os.eventfd(0), 5)


def test_queues_that_somebody_serves() -> None:
    page = StatePage.make(5)

    def change(p: Any) -> None:
        row = getattr(p, "in")[2]
        row.worker, row.frames, row.cycles = 4, 10, 1000

    assert page.queues() == ()
    write(page.fd, "us_state_page", change)
    assert page.queues() == (QueueLive(2, 3, 10, 1000),)
    page.close()


def test_switch_page() -> None:
    fd = os.memfd_create("switch", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, statepage.SWITCH_PAGE_SIZE)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, statepage.SIZE_SEALS)
    with pytest.raises(BadPage):
        SwitchPage(fd)

    def change(p: Any) -> None:
        p.magic, p.version = constant("US_SWITCH_MAGIC"), constant("US_ABI_VERSION")
        p.pid, p.n_workers, p.fdb_entries = 77, 4_000_000, 3
        p.worker[1].cpu, p.worker[1].frames = -1, 9

    write(fd, "us_switch_page", change)
    page = SwitchPage(fd)
    os.close(fd)
    live = page.live(starts=2, adopted=True)
    assert (live.pid, live.starts, live.adopted, live.fdb_entries) == (77, 2, True, 3)
    assert len(live.workers) == constant("US_WORKERS_MAX"), "a count that lies is bounded"
    assert (live.workers[1].cpu, live.workers[1].frames) == (-1, 9)
    page.close()

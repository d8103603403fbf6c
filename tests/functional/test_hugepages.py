# SPDX-License-Identifier: Apache-2.0
"""Guest memory in huge pages: the memfd that "memory-backend-memfd,hugetlb=on" makes.

Huge pages are reserved for this module and given back; where that is not
possible (no root, no contiguous memory) its tests are skipped by name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.daemons import Switch

from . import vms as v
from .conftest import Guest, Lab, Witnesses, frame
from .frontend import DriverRing, GuestRam, Req
from .frontend import messages as m
from .frontend.peer import RX, TX

PAGE = 2 << 20
NEEDED = 2 * 96 + 64  # two guests of 192 MiB, and what the Python front-ends take
POOL = Path("/proc/sys/vm/nr_hugepages")
BROADCAST = b"\xff" * 6


@pytest.fixture(scope="module")
def huge_pages() -> Iterator[None]:
    before = POOL.read_text() if POOL.exists() else ""
    if not re.search(r"^Hugepagesize: +2048 kB$", Path("/proc/meminfo").read_text(), re.M):
        pytest.skip("the kernel has no huge pages of 2 MiB")
    if not os.access(POOL, os.W_OK):
        pytest.skip("reserving huge pages needs root")
    POOL.write_text(str(int(before) + NEEDED))
    try:
        if int(POOL.read_text()) < int(before) + NEEDED:
            pytest.skip(f"no room for {NEEDED} huge pages")
        yield
    finally:
        POOL.write_text(before)


@pytest.fixture
def pair(lab: Lab, huge_pages: None) -> tuple[Guest, Guest]:
    """A guest in huge pages and one in small ones."""
    ram = GuestRam(4 * PAGE, kind=os.MFD_HUGETLB)
    return lab.guest("huge", ram=ram), lab.guest("huge")


def exchange(a: Guest, b: Guest) -> None:
    for src, dst in ((a, b), (b, a)):
        sent = [frame(BROADCAST, src.mac, os.urandom(n)) for n in (1, 100, 1000, 1500)]
        assert src.front.send_frames(sent) == len(sent)
        assert [f for _, f in dst.front.recv_frames(len(sent))] == sent


def test_huge_and_small_pages_understand_each_other(pair: tuple[Guest, Guest], lab: Lab) -> None:
    exchange(*pair)
    assert lab.show(pair[0].name)["memory_bytes"] == 4 * PAGE


@pytest.mark.parametrize("offset", [1 << 20, 4096, PAGE + 12288])
def test_region_that_begins_within_a_page(
    lab: Lab, witnesses: Witnesses, huge_pages: None, offset: int
) -> None:
    """QEMU leaves a hole below 1 MiB: its regions begin and end anywhere in the file."""
    ram = GuestRam(4 * PAGE, kind=os.MFD_HUGETLB)
    odd, other = lab.guest("odd", ram=ram, start=False), lab.guest("odd")
    front = odd.front
    front.connect()
    front.negotiate()
    # One memfd, two regions that touch, the second one from within a page to within another; their
    # addresses on our side lie apart.  Rings go into the second, buffers around the border.
    whole, apart = ram.regions[0], 1 << 40
    low = bytes(8) + m.pack_region(0, offset, whole.uva, 0)
    size = 4 * PAGE - offset - 8192
    high = bytes(8) + m.pack_region(offset, size, whole.uva + apart + offset, offset)
    for body in (low, high):
        assert front.acked(Req.ADD_MEM_REG, body, [whole.fd]) == 0
    ram.skip_to(offset + (1 << 16))
    for index in (RX, TX):
        front.rings[index].close()
        front.rings[index] = DriverRing(ram, 256)
        front.setup_ring(index, apart=apart)
    front.enable()
    front.sync()
    ram.skip_to(max(0x1000, offset - 1000))
    front.post_rx(8)
    exchange(odd, other)
    assert front.acked(Req.REM_MEM_REG, high) == 0
    witnesses.check()


@pytest.mark.parametrize("left", [0, 2 * PAGE])
def test_f2_huge_pages_that_shrink(
    pair: tuple[Guest, Guest], lab: Lab, witnesses: Witnesses, left: int
) -> None:
    liar, other = pair
    exchange(liar, other)
    region, ring = liar.front.ram.regions[0], liar.front.rings[TX]
    ring.write_desc(200, 4 * PAGE - 8192, 1000)
    ring.put_avail(200)
    ring.publish()
    os.ftruncate(region.fd, left)
    ring.kick()
    lab.fenced(liar.name, "memory")
    assert lab.show(other.name)["port"]["link"] == "up"
    witnesses.check()
    os.ftruncate(region.fd, 4 * PAGE)


def test_killed_dataplane_finds_its_place_in_huge_pages(lab_module: Lab, huge_pages: None) -> None:
    """The position of a ring that nobody serves is read from the file."""
    lab = Lab(lab_module.switch)
    ram = GuestRam(4 * PAGE, kind=os.MFD_HUGETLB)
    a, b = lab.guest("place", ram=ram), lab.guest("place")
    exchange(a, b)
    old = lab.switch.kill_dataplane()
    assert a.front.stop_ring(TX) == a.front.rings[TX].avail_idx
    a.front.setup_ring(TX, base=a.front.rings[TX].avail_idx)
    lab.switch.wait_replaced(old)
    for guest in (a, b):
        lab.switch.wait_link(guest.name)
    exchange(a, b)
    lab.close()


@pytest.mark.guest
@pytest.mark.timeout(600)
def test_guest_in_huge_pages(switch: Switch, huge_pages: None) -> None:
    """QEMU's own, whose regions begin and end within a page."""
    huge = v.Vms(switch, hugepages=True)
    small = v.Vms(switch)
    try:
        a, b = huge.add(), small.add("server")
        v.balanced(switch, a, b, lambda: v.talk(a, b), tolerated=set())
        v.exchange_files(a, b)
    finally:
        huge.close()
        small.close()


KILLS = True

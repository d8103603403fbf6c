# SPDX-License-Identifier: Apache-2.0
"""AF_XDP ports on veth pairs: frames exactly, both ways; devices and dataplanes that end."""

from __future__ import annotations

import errno
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from testbed import unprivileged
from vif_uswitch.dataplane.base import DataplaneRefused
from vif_uswitch.dataplane.native import NativeSwitch
from vif_uswitch.exceptions import Forbidden, InvalidInput, NotFound

from .conftest import mac
from .hosts import RawSocket
from .xdp_bed import PATIENCE_S, TOP, UNTAGGED, Bed, Port, ip, missing, until

_missing = missing()
pytestmark = pytest.mark.skipif(_missing is not None, reason=str(_missing))
TYPE = b"\x88\xb5"
A, B = mac(0xA0), mac(0xB0)
_numbers = itertools.count(1)


@pytest.fixture
def bed() -> Iterator[Bed]:
    made = Bed(f"uswx{os.getpid()}-{next(_numbers)}")
    yield made
    made.close()


@pytest.fixture
def switch() -> Iterator[NativeSwitch]:
    with NativeSwitch(workers=1) as made:
        yield made


def frame(dst: bytes, src: bytes, size: int, seed: int = 0) -> bytes:
    return dst + src + TYPE + bytes((i * 31 + seed + size) & 255 for i in range(size - 14))


def passes(sender: RawSocket, receiver: RawSocket, data: bytes, vid: int | None = None) -> None:
    sender.send(data)
    tag, got = receiver.receive(TYPE, PATIENCE_S)
    assert (tag, got) == (vid, data)


def silent(receiver: RawSocket) -> bool:
    try:
        receiver.receive(TYPE, 0.3)
    except TimeoutError:
        return True
    return False


def pair(bed: Bed, switch: NativeSwitch, *, queues: int = 1, mtu: int = 1500) -> tuple[Port, Port]:
    """Ports 0 and 1 on near0 and near1."""
    made = []
    for number in range(2):
        name = f"near{number}"
        index = bed.attached(name, f"far{number}", queues=queues, mtu=mtu)
        made.append(Port(switch, bed, number, name, index, queues=queues, max_frame=mtu + 14))
    return made[0], made[1]


def test_every_size_both_ways_and_counters(bed: Bed, switch: NativeSwitch) -> None:
    a, b = pair(bed, switch)
    far0, far1 = bed.raw("far0"), bed.raw("far1")
    sizes = range(60, 1515)
    for size in sizes:
        passes(far0, far1, frame(B, A, size))
        passes(far1, far0, frame(A, B, size))
    for port in (a, b):
        # The last frame may be there before it is counted.
        until(lambda out=port.page: out.outgoing().frames == len(sizes), "all are counted")
        assert port.page.incoming().frames == port.page.outgoing().frames == len(sizes)
        assert port.page.incoming().bytes == port.page.outgoing().bytes == sum(sizes)
        assert port.link_up()
        nic = port.page.nic()
        assert nic is not None and nic.driver == "af_xdp" and nic.queues == 1
        assert [nic.counters[n] for n in ("rx_missed", "rx_errors", "tx_errors")] == [0, 0, 0]


def test_bursts_exactly(bed: Bed, switch: NativeSwitch) -> None:
    pair(bed, switch)
    far0, far1 = bed.raw("far0"), bed.raw("far1")
    passes(far1, far0, frame(A, B, 60))
    for burst in range(20):
        sent = [frame(B, A, 60 + i * 7, seed=burst * 100 + i) for i in range(100)]
        for data in sent:
            far0.send(data)
        assert [far1.receive(TYPE, PATIENCE_S)[1] for _ in sent] == sent


def test_jumbo(bed: Bed, switch: NativeSwitch) -> None:
    """In several pieces where the kernel can; where it cannot, there is no port."""
    try:
        _a, b = pair(bed, switch, mtu=9000)
    except DataplaneRefused as error:
        assert error.errno == errno.EINVAL
        pytest.skip("this kernel has no AF_XDP frames in several pieces (Linux 6.6)")
    far0, far1 = bed.raw("far0"), bed.raw("far1")
    for size in (60, 1514, 3840, 3841, 4096, 4097, 7680, 7681, 9014):
        passes(far0, far1, frame(B, A, size))
        passes(far1, far0, frame(A, B, size))
    switch.port_limits(1, max_frame=1514)
    far0.send(frame(B, A, 1515))
    assert silent(far1)
    assert b.page.outgoing().drops["mtu"] == 1
    with pytest.raises(DataplaneRefused):
        switch.port_limits(1, max_frame=9015)


def test_too_long_for_any(bed: Bed, switch: NativeSwitch) -> None:
    index = bed.attached("near0", "far0")
    with pytest.raises(DataplaneRefused) as refused:
        Port(switch, bed, 0, "near0", index, max_frame=65000)
    assert refused.value.errno == errno.EINVAL


def test_tags(bed: Bed, switch: NativeSwitch) -> None:
    """The trunk's tag is written and read by the switch."""
    indexes = [bed.attached(f"near{i}", f"far{i}") for i in range(2)]
    Port(switch, bed, 0, "near0", indexes[0], rows=[(100, 7), (200, 8)])
    Port(switch, bed, 1, "near1", indexes[1], rows=[(UNTAGGED, 7)])
    far0, far1 = bed.raw("far0"), bed.raw("far1")
    for size in (60, 61, 1514):
        plain = frame(A, B, size)
        passes(far1, far0, plain, vid=100)
        tagged = frame(B, A, size)
        far0.send(tagged[:12] + b"\x81\x00\x00\x64" + tagged[12:])
        assert far1.receive(TYPE, PATIENCE_S) == (None, tagged)
    other = frame(B, A, 60)
    far0.send(other[:12] + b"\x81\x00\x00\xc8" + other[12:])
    assert silent(far1)


def test_two_queues(bed: Bed, switch: NativeSwitch) -> None:
    a, b = pair(bed, switch, queues=2)
    far0, far1 = bed.raw("far0"), bed.raw("far1")
    passes(far1, far0, frame(A, B, 60))
    flows = 64
    for flow in range(flows):
        passes(far0, far1, frame(B, mac(0xC000 + flow), 100, seed=flow))
    assert a.page.incoming().frames == flows
    sent = b.sent_by_queue()[:2]
    assert sum(sent) == flows and min(sent) > 0, sent
    with pytest.raises(InvalidInput, match="more than near0 has"):
        bed.sockets("near0", 3)


def test_link_down_and_up(bed: Bed, switch: NativeSwitch) -> None:
    a, b = pair(bed, switch)
    far0, far1 = bed.raw("far0"), bed.raw("far1")
    passes(far1, far0, frame(A, B, 60))
    passes(far0, far1, frame(B, A, 60))
    bed.set_link("near1", "down")
    assert a.link_up() and not b.link_up()

    def drops() -> bool:
        far0.send(frame(B, A, 60))  # the first burst finds out and stays in the ring
        return b.page.outgoing().drops.get("link_down", 0) > 0

    until(drops, "what it is sent is dropped")
    bed.set_link("near1", "up")
    until(b.link_up, "the link comes back")
    nic = b.page.nic()
    assert nic is not None and nic.link_changes == 2
    while not silent(far1):
        pass
    passes(far0, far1, frame(B, A, 62))
    passes(far1, far0, frame(A, B, 62))
    assert a.page.broken() is None and b.page.broken() is None


def test_device_deleted(bed: Bed, switch: NativeSwitch) -> None:
    """It costs that port; the others go on, and it can be made anew."""
    a, b = pair(bed, switch)
    index = bed.attached("near2", "far2")
    c = Port(switch, bed, 2, "near2", index)
    far0, far1, far2 = bed.raw("far0"), bed.raw("far1"), bed.raw("far2")
    far0.send(frame(B, A, 60))  # nobody knows B: to all others
    assert far1.receive(TYPE, PATIENCE_S) == far2.receive(TYPE, PATIENCE_S)
    passes(far1, far0, frame(A, B, 60))
    passes(far2, far0, frame(A, mac(0xC0), 60))
    ip("-n", bed.near.name, "link", "delete", "near2")
    switch.nic_read(2)  # a frame to it would do as well
    broken = c.page.broken()
    assert broken is not None and broken.reason == "device_gone"
    assert not c.link_up()
    passes(far0, far1, frame(B, A, 100))
    passes(far1, far0, frame(A, B, 100))
    assert a.page.broken() is None and b.page.broken() is None
    c.close()
    index = bed.attached("near2", "far2")
    Port(switch, bed, 2, "near2", index)
    passes(bed.raw("far2"), far0, frame(A, mac(0xC0), 60))


def test_ordinary_user_killed_and_recovered(bed: Bed) -> None:
    """No capability is needed; a killed dataplane leaves the frames to the kernel."""
    who = unprivileged.identity()
    indexes = ",".join(str(bed.attached(f"near{i}", f"far{i}")) for i in range(2))
    far0, far1, stack = bed.raw("far0"), bed.raw("far1"), bed.raw("near0", bed.near)
    for _ in range(3):
        fds = [fd for i in range(2) for fd in bed.sockets(f"near{i}")]
        child = subprocess.Popen(
            [sys.executable, "-m", "tests.functional.xdp_bed", "switch", indexes, *map(str, fds)],
            pass_fds=fds, cwd=TOP, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            user=who.uid, group=who.gid, extra_groups=[],
        )  # fmt: skip
        for fd in fds:
            os.close(fd)
        assert child.stdout is not None and child.stdin is not None
        assert child.stdout.readline() == "ready\n"
        passes(far0, far1, frame(B, A, 200))
        passes(far1, far0, frame(A, B, 200))
        assert silent(stack)
        child.kill()
        child.wait(PATIENCE_S)
        child.stdin.close()
        child.stdout.close()
        passes(far0, stack, frame(B, A, 70))
        assert silent(far1)


# ---- the helper ----


def test_only_what_root_gave(bed: Bed) -> None:
    bed.veth("near0", "far0")
    with pytest.raises(Forbidden, match="uswitch-xdp attach near0"):
        bed.sockets("near0")
    with pytest.raises(InvalidInput):
        bed.sockets("../near0")
    done = bed.helper("attach", "near1")
    assert done.returncode == NotFound.exit_status and "does not exist" in done.stderr


def test_refuses_an_interface_in_use(bed: Bed) -> None:
    bed.veth("near0", "far0")
    ip("-n", bed.near.name, "address", "add", "192.0.2.1/24", "dev", "near0")
    done = bed.helper("attach", "near0")
    assert done.returncode == 1 and "192.0.2.1/24" in done.stderr
    assert "prog/xdp" not in bed.near.run(["ip", "link", "show", "near0"]).output
    done = bed.helper("attach", "--force", "near0")
    assert done.returncode == 0 and "native XDP" in done.stdout
    for fd in bed.sockets("near0"):
        os.close(fd)


def test_detach(bed: Bed) -> None:
    bed.attached("near0", "far0")
    assert "prog/xdp" in bed.near.run(["ip", "link", "show", "near0"]).output
    done = bed.helper("detach", "near0")
    assert done.returncode == 0 and "kernel's again" in done.stdout
    assert "prog/xdp" not in bed.near.run(["ip", "link", "show", "near0"]).output
    with pytest.raises(Forbidden):
        bed.sockets("near0")
    assert bed.helper("detach", "near0").returncode == NotFound.exit_status

# SPDX-License-Identifier: Apache-2.0
"""What the switch does with polite guests: forwarding, segments, tags, sizes, offloads.

Every test looks at bytes that arrived at the other guest, through both real
processes and real vhost-user sockets.
"""

from __future__ import annotations

import os
import struct

import pytest

from .conftest import Guest, Lab, frame, mac
from .frontend import messages as m
from .frontend.peer import POLITE, RX, TX

BROADCAST = b"\xff" * 6
LAYOUTS = ["split", "packed"]
PLAIN = m.F_VERSION_1 | m.F_PROTOCOL_FEATURES  # no offloads, no mergeable buffers


def payloads(guest: Guest, count: int, timeout: float = 5.0) -> list[bytes]:
    return [f for _, f in guest.front.recv_frames(count, timeout)]


def nothing(guest: Guest, seconds: float = 0.3) -> None:
    assert guest.front.recv_frames(1, timeout=5, quiet=seconds) == []


def meet(*guests: Guest) -> None:
    """Let the switch learn where everybody is."""
    for g in guests:
        g.send(BROADCAST, [b"hello"])
        for other in guests:
            if other is not g:
                assert len(payloads(other, 1)) == 1


@pytest.mark.parametrize("mode", ["client", "server"])
def test_unicast_both_ways_every_size(lab: Lab, mode: str) -> None:
    a, b = lab.guest("sizes", mode=mode), lab.guest("sizes", mode=mode)
    meet(a, b)
    for src, dst in ((a, b), (b, a)):
        head = dst.mac + src.mac + b"\x88\xb5"
        sizes = (14, 15, 59, 60, 63, 64, 65, 77, 127, 128, 129, 255, 256, 999, 1023, 1024, 1513)
        frames = [head + os.urandom(n - 14) for n in (*sizes, 1514)]
        assert src.front.send_frames(frames) == len(frames)
        assert payloads(dst, len(frames)) == frames


def test_unicast_reaches_one_guest_only(lab: Lab) -> None:
    a, b, c = (lab.guest("three") for _ in range(3))
    meet(a, b, c)
    a.send(b, [b"private"])
    assert payloads(b, 1)[0][14:21] == b"private"
    nothing(c)
    nothing(a)


def test_flood_reaches_everybody_but_the_sender(lab: Lab) -> None:
    a, b, c = (lab.guest("flood") for _ in range(3))
    for dst in (BROADCAST, b"\x01\x00\x5e\x00\x00\x05", mac(0xABCDEF)):  # broadcast, group, unknown
        a.send(dst, [b"to all"])
        assert payloads(b, 1)[0][:6] == dst
        assert payloads(c, 1)[0][:6] == dst
        nothing(a, 0.1)


def test_segments_never_mix(lab: Lab) -> None:
    a, b = lab.guest("red"), lab.guest("red")
    x, y = lab.guest("green"), lab.guest("green")
    meet(a, b)
    meet(x, y)
    for dst in (BROADCAST, x.mac, y.mac):
        a.send(dst, [b"from red"])
    assert len(payloads(b, 3)) == 3  # flooded: these addresses are unknown in red
    nothing(x)
    nothing(y, 0.1)


def test_the_same_address_lives_in_two_segments(lab: Lab) -> None:
    a, b = lab.guest("one"), lab.guest("one")
    x, y = lab.guest("two"), lab.guest("two")
    y.mac = b.mac
    meet(a, b)
    meet(x, y)
    a.send(b, [b"in one"])
    x.send(y, [b"in two"])
    assert payloads(b, 1)[0][14:20] == b"in one"
    assert payloads(y, 1)[0][14:20] == b"in two"


def test_port_without_rows_neither_sends_nor_receives(lab: Lab) -> None:
    a, lonely = lab.guest("inside"), lab.guest(None)
    lonely.send(BROADCAST, [b"let me in"])
    nothing(a)
    a.send(BROADCAST, [b"anybody?"])
    nothing(lonely)
    assert lab.drops(lonely.name) == {"no_segment": 1}
    assert lab.drops(a.name) == {"no_receiver": 1}


def test_trunk_tags_and_untags(lab: Lab) -> None:
    a, b = lab.guest("blue"), lab.guest("pink")
    trunk = lab.guest("native", trunk={10: "blue", 20: "pink"})
    a.send(BROADCAST, [b"blue"])
    (got,) = payloads(trunk, 1)
    assert got[12:16] == b"\x81\x00\x00\x0a" and got[16:22] == b"\x88\xb5blue"
    b.send(BROADCAST, [b"pink"])
    assert payloads(trunk, 1)[0][12:16] == b"\x81\x00\x00\x14"
    trunk.send(a, [b"for blue"], vid=10)
    assert (
        payloads(a, 1)[0]
        == frame(a.mac, trunk.mac, b"for blue", 10)[:12]
        + frame(a.mac, trunk.mac, b"for blue", 10)[16:]
    )
    trunk.send(BROADCAST, [b"for pink"], vid=20)
    assert payloads(b, 1)[0][14:22] == b"for pink"
    nothing(a)
    trunk.send(BROADCAST, [b"no row"], vid=30)
    nothing(a, 0.1)
    nothing(b, 0.1)
    assert lab.drops(trunk.name)["vlan_unknown"] == 1


def test_access_port_may_not_send_tags(lab: Lab) -> None:
    a, b = lab.guest("plain"), lab.guest("plain")
    a.send(BROADCAST, [b"tagged"], vid=7)
    nothing(b)
    assert lab.drops(a.name) == {"vlan_unknown": 1}


def test_second_tag_cannot_hop(lab: Lab) -> None:
    """Double tags end where the inner one would become the outer one."""
    trunk = lab.guest(None, trunk={10: "hop"})
    access, other = lab.guest("hop"), lab.guest(None, trunk={77: "hop"})
    inner = b"\x81\x00\x00\x14" + b"\x88\xb5inside"
    double = BROADCAST + trunk.mac + b"\x81\x00\x00\x0a" + inner
    trunk.front.send_frames([double.ljust(60, b"\0")])
    assert payloads(other, 1)[0][12:20] == b"\x81\x00\x00\x4d" + inner[:4]
    nothing(access)
    assert lab.drops(access.name) == {"vlan_nested": 1}


def test_priority_tag_counts_as_untagged_and_survives_on_trunks(lab: Lab) -> None:
    a, b = lab.guest("prio"), lab.guest("prio")
    trunk = lab.guest(None, trunk={5: "prio"})
    a.send(BROADCAST, [b"urgent"], vid=0xE000)  # priority 7, VLAN id 0
    assert payloads(b, 1)[0][12:20] == b"\x88\xb5urgent"
    assert payloads(trunk, 1)[0][12:16] == b"\x81\x00\xe0\x05"


def test_retagging_a_live_port_moves_it(lab: Lab) -> None:
    a, b, c = lab.guest("old"), lab.guest("old"), lab.guest("new")
    meet(a, b)
    lab.client.port_set(a.name, {"segment": "new"})
    a.send(BROADCAST, [b"moved"])
    assert payloads(c, 1)[0][14:19] == b"moved"
    nothing(b)
    lab.client.port_set(a.name, {"segment": None})
    a.send(BROADCAST, [b"cut off"])
    nothing(c)


@pytest.mark.parametrize(
    "wanted",
    [PLAIN, m.F_PROTOCOL_FEATURES, m.F_MRG_RXBUF, POLITE, 0],
    ids=["no-mrg", "legacy-10", "legacy-mrg-12", "all", "nothing"],
)
def test_header_sizes_and_features_mix(lab: Lab, wanted: int) -> None:
    a, b = lab.guest("mix", wanted=wanted), lab.guest("mix")
    meet(a, b)
    for src, dst in ((a, b), (b, a)):
        data = [os.urandom(40) for _ in range(30)]
        assert src.send(dst, data) == 30
        assert [f[14:54] for f in payloads(dst, 30)] == data


def test_indirect_and_long_chains(lab: Lab) -> None:
    a, b = lab.guest("chains"), lab.guest("chains")
    meet(a, b)
    body = b.mac + a.mac + b"\x88\xb5" + os.urandom(1400)
    data = bytes(12) + body
    ring, ram = a.front.rings[TX], a.front.ram
    for indirect in (False, True):
        for piece in (7, 64, 333):
            base = ram.alloc(len(data))
            ram.write(base, data)
            cut = [(base + i, min(piece, len(data) - i), False) for i in range(0, len(data), piece)]
            if indirect:
                ring.add_indirect(cut, ram.alloc(16 * len(cut), 16))
            else:
                ring.add(cut)
            ring.publish()
            ring.kick()
            assert len(ring.wait_used(1)) == 1
            assert payloads(b, 1) == [body]


def test_event_index_still_signals(lab: Lab) -> None:
    """With EVENT_IDX the call comes exactly when used_event asks for it."""
    a, b = lab.guest("events", wanted=POLITE), lab.guest("events", wanted=POLITE)
    meet(a, b)
    ring = b.front.rings[RX]
    ring.set_used_event(ring.last_used + 4)
    before = lab.show(b.name)["outgoing"]["signals"]
    for _ in range(4):
        a.send(b, [b"x"])
    assert lab.show(b.name)["outgoing"]["signals"] == before
    a.send(b, [b"x"])
    assert len(payloads(b, 5)) == 5
    assert lab.show(b.name)["outgoing"]["signals"] == before + 1


def test_mergeable_buffers_take_a_jumbo_frame(lab: Lab) -> None:
    a, b = lab.guest("jumbo", mtu=9000), lab.guest("jumbo", mtu=9000)
    meet(a, b)
    body = b.mac + a.mac + b"\x88\xb5" + os.urandom(9000)
    a.front.send_frames([body])
    ((header, got),) = b.front.recv_frames(1)
    assert got == body
    assert struct.unpack("<H", header[10:12])[0] == 5  # 9026 bytes in buffers of 2048


def test_without_mergeable_a_small_buffer_is_counted(lab: Lab) -> None:
    a = lab.guest("small", mtu=9000)
    b = lab.guest("small", mtu=9000, wanted=PLAIN)
    meet(a, b)
    a.send(b, [os.urandom(4000), b"short"])
    assert payloads(b, 1)[0][14:19] == b"short"
    assert lab.drops(b.name) == {"ring_small": 1}


def test_mtu_of_sender_and_receiver(lab: Lab) -> None:
    big, small = lab.guest("mtu", mtu=3000), lab.guest("mtu", mtu=1500)
    meet(big, small)
    big.send(small, [bytes(1501), bytes(1500)])
    assert len(payloads(small, 1)[0]) == 1514
    assert lab.drops(small.name) == {"mtu": 1}
    small.send(big, [bytes(1501)])
    nothing(big)
    assert lab.drops(small.name) == {"mtu": 1, "frame_long": 1}


def test_full_receiver_costs_only_its_frames(lab: Lab) -> None:
    a, slow, fast = (lab.guest("slow", start=False) for _ in range(3))
    a.front.start()
    slow.front.start(rx_buffers=4)
    fast.front.start()
    slow.send(BROADCAST, [b"here"])
    fast.send(BROADCAST, [b"here"])
    payloads(a, 2)
    payloads(slow, 1)
    payloads(fast, 1)
    for i in range(10):
        assert a.send(slow, [bytes([i])]) == 1
        assert a.send(fast, [bytes([i])]) == 1
    assert len(payloads(fast, 10)) == 10
    assert lab.drops(slow.name) == {"ring_full": 6}
    assert [f[14] for f in payloads(slow, 4)] == [0, 1, 2, 3]


def test_guest_that_left_is_counted(lab: Lab) -> None:
    a, b = lab.guest("left"), lab.guest("left")
    meet(a, b)
    b.front.disconnect()
    lab.wait(lambda: lab.show(b.name)["port"]["link"] == "waiting", "port of the gone guest waits")
    a.send(b, [b"gone"])
    assert lab.drops(b.name) == {"link_down": 1}


def test_address_moves_with_its_guest(lab: Lab) -> None:
    a, b, c = (lab.guest("move") for _ in range(3))
    meet(a, b, c)
    c.front.send_frames([frame(BROADCAST, b.mac, b"now here")])
    assert len(payloads(a, 1)) == 1
    payloads(b, 1)
    a.send(b.mac, [b"follow"])
    assert payloads(c, 1)[0][14:20] == b"follow"
    nothing(b)


def test_pinned_address_cannot_be_taken_over(lab: Lab) -> None:
    a, thief = lab.guest("pin"), lab.guest("pin")
    owner = lab.guest("pin", macs=["52:54:00:aa:aa:aa"])
    thief.front.send_frames([frame(BROADCAST, bytes.fromhex("525400aaaaaa"), b"mine")])
    payloads(a, 1)
    payloads(owner, 1)
    a.send(bytes.fromhex("525400aaaaaa"), [b"to the owner"])
    assert payloads(owner, 1)[0][14:26] == b"to the owner"
    nothing(thief)


def test_learning_quota_holds_per_port(lab: Lab) -> None:
    flooder, a, b = lab.guest("quota", fdb_quota=8), lab.guest("quota"), lab.guest("quota")
    meet(flooder, a, b)
    flooder.front.send_frames([frame(a.mac, mac(0x100000 + i)) for i in range(64)])
    assert len(payloads(a, 64)) == 64
    entries = lab.client.fdb_list(port=flooder.name)
    assert len(entries) == 8
    a.send(b, [b"still known"])
    assert payloads(b, 1)[0][14:25] == b"still known"
    nothing(flooder)


def test_flood_budget_is_charged_to_the_sender(lab: Lab) -> None:
    noisy = lab.guest("budget", flood_rate=1, flood_burst=20)
    a, b = lab.guest("budget"), lab.guest("budget")
    noisy.front.send_frames([frame(BROADCAST, noisy.mac, b"storm")] * 40)
    arrived = len(a.front.recv_frames(40, timeout=5, quiet=0.3))
    assert 10 <= arrived <= 12  # 20 copies for two receivers, and what a second or so adds
    assert len(b.front.recv_frames(40, timeout=5, quiet=0.3)) == arrived
    assert lab.drops(noisy.name) == {"flood_budget": 40 - arrived}
    a.send(b, [b"unhurt"])
    # b is unknown so far, so this floods too, on a's own budget
    assert payloads(b, 1)[0][14:20] == b"unhurt"


@pytest.mark.parametrize(
    ("name", "dst", "src", "reason"),
    [
        ("group source", BROADCAST, b"\x01\x00\x5e\x00\x00\x01", "src_invalid"),
        ("zero source", BROADCAST, bytes(6), "src_invalid"),
        ("link local", bytes.fromhex("0180c200000e"), mac(0xBEEF), "link_local"),
    ],
)
def test_addresses_that_are_refused(
    lab: Lab, name: str, dst: bytes, src: bytes, reason: str
) -> None:
    a, b = lab.guest("refused"), lab.guest("refused")
    a.front.send_frames([frame(dst, src)])
    nothing(b)
    assert lab.drops(a.name) == {reason: 1}

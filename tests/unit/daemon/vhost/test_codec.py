# SPDX-License-Identifier: Apache-2.0
"""Shapes of vhost-user messages: rows M1, M3, M4, M5 and M7 as far as they are shape."""

from __future__ import annotations

import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.daemon import vhost_peer as wire
from vif_uswitch.daemon.vhost import codec, msg
from vif_uswitch.daemon.vhost.msg import Request, Violation

PAYLOAD = {
    msg.Nothing: b"",
    msg.Number: wire.number(0),
    msg.VringState: wire.vring(0, 2),
    msg.VringAddr: wire.addr(0),
    msg.VringFd: wire.number(0),
    msg.Region: wire.one_region(wire.region()),
    msg.Table: wire.table(wire.region()),
    msg.Log: wire.log(1),
    msg.Opaque: b"x" * 40,
}


def decode(request: int, payload: bytes, n_fds: int = 0, flags: int = 1) -> msg.Message:
    header = codec.read_header(struct.pack("=III", request, flags, len(payload)))
    return codec.decode(header, payload, n_fds)


def payload_of(request: int) -> bytes:
    return PAYLOAD[codec.rule_of(request).body]


def right_fds(request: int) -> range:
    """Numbers of fds that fit the payload of payload_of()."""
    rule = codec.rule_of(request)
    if rule.body in (msg.VringFd, msg.Table):
        return range(1, 2)
    return range(rule.fds[0], rule.fds[1] + 1)


@pytest.mark.parametrize("request_", [*Request, 0, 45, 1000, 0xFFFFFFFF])
def test_m1_every_number_of_fds_on_every_message(request_: int) -> None:
    for n_fds in range(33):
        if n_fds in right_fds(request_):
            assert decode(request_, payload_of(request_), n_fds).request == request_
        else:
            with pytest.raises(Violation, match=f"{n_fds} file descriptors"):
                decode(request_, payload_of(request_), n_fds)


@pytest.mark.parametrize("request_", sorted(codec.RULES))
def test_payload_sizes_are_exact(request_: Request) -> None:
    good = payload_of(request_)
    n_fds = right_fds(request_)[0]
    for size in {0, 1, 4, 7, len(good) - 1, len(good) + 1, len(good) + 8, 4096} - {len(good)}:
        if size < 0:
            continue
        with pytest.raises(Violation):
            decode(request_, good[:size].ljust(size, b"\0"), n_fds)


@pytest.mark.parametrize("flags", [0, 2, 3, 5, 0x11, 0x80000001])
def test_flags_of_something_else_are_refused(flags: int) -> None:
    with pytest.raises(Violation):
        decode(Request.GET_FEATURES, b"", flags=flags)


def test_size_is_bounded_before_anything_is_read() -> None:
    for size in (4097, 1 << 20, 0xFFFFFFFF):
        with pytest.raises(Violation):
            codec.read_header(struct.pack("=III", 1, 1, size))
    assert codec.read_header(struct.pack("=III", 1, 1, 4096)).size == 4096


CORNERS = [0, 1, 4096, (1 << 31), (1 << 32) - 1, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]


def test_m3_no_corner_of_a_region_wraps() -> None:
    accepted = 0
    for gpa, size, uva, offset in itertools.product(CORNERS, repeat=4):
        fits = (
            size > 0
            and gpa + size <= 1 << 64
            and uva + size <= 1 << 64
            and offset + size <= 1 << 63
        )
        for request, payload in (
            (Request.ADD_MEM_REG, wire.one_region(wire.region(gpa, size, uva, offset))),
            (Request.SET_MEM_TABLE, wire.table(wire.region(gpa, size, uva, offset))),
        ):
            if fits:
                decode(request, payload, 1)
                accepted += 1
            else:
                with pytest.raises(Violation):
                    decode(request, payload, 1)
    assert accepted > 100


@pytest.mark.parametrize("n", [0, 1, 8])
def test_table_takes_up_to_eight_regions(n: int) -> None:
    rows = [wire.region(gpa=i << 21, size=1 << 20, uva=i << 30) for i in range(n)]
    body = decode(Request.SET_MEM_TABLE, wire.table(*rows), n).body
    assert isinstance(body, msg.Table)
    assert len(body.regions) == n


@pytest.mark.parametrize("claimed", [0, 2, 9, 255, 0x10000, 0xFFFFFFFF])
def test_table_whose_count_lies(claimed: int) -> None:
    payload = struct.pack("=II", claimed, 0) + wire.region()
    with pytest.raises(Violation):
        decode(Request.SET_MEM_TABLE, payload, 1)


@pytest.mark.parametrize(
    ("gpa", "uva"), [(0, 1 << 30), (1 << 30, 0), (wire.RAM - 1, 1 << 30), (1 << 30, wire.RAM - 1)]
)
def test_f5_overlapping_regions(gpa: int, uva: int) -> None:
    rows = wire.table(wire.region(0, wire.RAM, 0), wire.region(gpa, wire.RAM, uva))
    with pytest.raises(Violation, match="overlap"):
        decode(Request.SET_MEM_TABLE, rows, 2)


@pytest.mark.parametrize("index", [0, 1, 255, 0x200, 0x10000, 0x10001, 0xFFFFFFFF, 1 << 63])
def test_m4_no_bit_of_an_index_is_lost(index: int) -> None:
    ring = index & ~0x100  # that bit is not part of it
    body = decode(Request.SET_VRING_KICK, wire.number(ring), 1).body
    assert body == msg.VringFd(ring, True)
    body = decode(Request.SET_VRING_KICK, wire.number(ring | 0x100), 0).body
    assert body == msg.VringFd(ring, False)
    if index < 1 << 32:
        state = decode(Request.SET_VRING_NUM, wire.vring(index, 2)).body
        assert state == msg.VringState(index, 2)


@pytest.mark.parametrize("request_", [12, 13, 14])
def test_no_fd_bit_must_match(request_: int) -> None:
    with pytest.raises(Violation, match="no-fd bit"):
        decode(request_, wire.number(0x100), 1)
    with pytest.raises(Violation, match="no-fd bit"):
        decode(request_, wire.number(0), 0)


def test_m5_unserved_requests_that_need_an_answer_are_known() -> None:
    assert decode(Request.GET_CONFIG, b"x" * 12).own_reply
    assert decode(Request.CREATE_CRYPTO_SESSION, b"x" * 100).own_reply
    assert not decode(Request.GPU_SET_SOCKET, b"", 1).own_reply
    assert not decode(99, b"").own_reply


@given(
    request=st.integers(0, 60), flags=st.sampled_from([1, 9]), payload=st.binary(max_size=300),
    n_fds=st.integers(0, 40),
)  # fmt: skip
def test_any_bytes_are_a_message_or_a_violation(
    request: int, flags: int, payload: bytes, n_fds: int
) -> None:
    try:
        found = decode(request, payload, n_fds, flags)
    except Violation as error:
        assert str(error)
        return
    assert found.need_reply == (flags == 9)
    assert found.name

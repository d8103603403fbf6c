# SPDX-License-Identifier: Apache-2.0
"""The in-process switch: a whole life without a packet, errors, handles."""

from __future__ import annotations

import errno
import os
import threading

import pytest

from tests.unit.daemon import vhost_peer as wire
from vif_uswitch.dataplane import native
from vif_uswitch.dataplane.base import DataplaneRefused, GuardPair, MemRegion, RingSetup
from vif_uswitch.dataplane.layout import KIND_VHOST
from vif_uswitch.dataplane.native import NativeSwitch
from vif_uswitch.dataplane.statepage import StatePage, SwitchPage
from vif_uswitch.exceptions import Unavailable

try:
    native.build_id()
except Unavailable as error:
    pytest.skip(str(error), allow_module_level=True)

MAC = b"\x52\x54\0\0\0\1"


def test_a_life() -> None:
    before, threads = wire.open_fds(), threading.active_count()
    with NativeSwitch() as switch:
        page = StatePage(switch.state_page(3), 3)
        switch.port_add(3, KIND_VHOST, state_fd=page.fd)
        switch.port_tags(3, [(4096, 5), (7, 9)])
        switch.port_macs(3, [MAC])
        switch.port_limits(3, max_frame=9014)
        ram, kick, call = wire.ram(), wire.eventfd(), wire.eventfd()
        switch.vhost_mem(3, [MemRegion(wire.GPA, wire.RAM, wire.UVA, 0, ram)])
        setup = RingSetup(
            ring=0, size=256, base=5, features=1 << 32, desc_uva=wire.UVA,
            avail_uva=wire.UVA + 0x4000, used_uva=wire.UVA + 0x6000, enabled=True, resume=False,
            kick_fd=kick, call_fd=call,
        )  # fmt: skip
        switch.ring_start(3, setup)
        switch.ring_call(3, 0, None)
        switch.ring_enable(3, 0, False)
        assert page.ring(0, enabled=False).size == 256
        assert switch.poll() == 0
        assert switch.ring_stop(3, 0) == 5
        pinned = {(mac, segment) for mac, segment, _, _, fixed in switch.fdb_dump() if fixed}
        assert pinned == {(MAC, 5), (MAC, 9)}
        assert switch.fdb_flush() == 0, "pinned addresses stay"
        assert switch.events() == []
        switch_page = SwitchPage(switch.page_fd())
        assert switch_page.live(0, False).fdb_entries == 2
        switch_page.close()
        switch.port_del(3)
        page.close()
        for fd in (ram, kick, call):
            os.close(fd)
    assert (wire.open_fds(), threading.active_count()) == (before, threads)


def test_a_guard_comes_and_goes() -> None:
    pairs = [GuardPair(MAC), GuardPair(MAC, bytes([10, 0, 0, 0]), 24), GuardPair(MAC, bytes(16))]
    with NativeSwitch() as switch:
        page = StatePage(switch.state_page(3), 3)
        switch.port_add(3, KIND_VHOST, state_fd=page.fd)
        for wanted in (pairs, pairs * 85, [], None):
            switch.port_guard(3, wanted)
        for wrong in (
            GuardPair(MAC, bytes([10, 0, 0, 1]), 24), GuardPair(b"\1\0\0\0\0\1"),
            GuardPair(MAC, bytes(4), 33),
        ):  # fmt: skip
            with pytest.raises(DataplaneRefused) as refused:
                switch.port_guard(3, [GuardPair(MAC), wrong])
            assert refused.value.errno == errno.EINVAL
        with pytest.raises(DataplaneRefused) as refused:
            switch.port_guard(4, None)
        assert refused.value.errno == errno.ENOENT
        page.close()


def test_refusals_have_their_errno() -> None:
    with NativeSwitch() as switch:
        with pytest.raises(DataplaneRefused) as caught:
            switch.port_del(1)
        assert caught.value.errno in (errno.ENOENT, errno.ENODEV)
        with pytest.raises(DataplaneRefused):
            switch.port_add(1, KIND_VHOST, state_fd=0)
        with pytest.raises(DataplaneRefused):
            switch.state_page(1024)


def test_impossible_configurations() -> None:
    before = wire.open_fds()
    for wrong in ({"workers": 33}, {"fdb_buckets": 17}, {"fdb_age_s": 0}):
        with pytest.raises(DataplaneRefused):
            NativeSwitch(**wrong)
    assert wire.open_fds() == before


def test_closed_and_foreign_handles() -> None:
    switch = NativeSwitch(workers=1)
    pid = os.fork()
    if pid == 0:
        try:
            switch.poll()
        except ValueError:
            switch.close()  # in the child: lets go of its copy, and of nothing else
            os._exit(0)
        os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    assert switch.fdb_dump() == []
    switch.close()
    switch.close()
    with pytest.raises(ValueError, match="closed"):
        switch.poll()


def test_names() -> None:
    assert native.break_name(1) == "avail_index"
    assert "ring" in native.break_text(1)
    assert native.drop_name(1) == "chain_addr"
    assert native.drop_name(47) == "reason-47"

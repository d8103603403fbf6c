# SPDX-License-Identifier: Apache-2.0
"""``uswitchctl uplink`` against a real control socket."""

from __future__ import annotations

import json
import re

import pytest

from tests.unit.cmd.ctl_rig import Ctl
from tests.unit.daemon.control.test_uplinks import ADAPTER, NIC, UP
from tests.unit.daemon.control_rig import Control
from vif_uswitch.daemon.model import Link, PortLive
from vif_uswitch.exceptions import Conflict


def squeezed(text: str) -> list[str]:
    return [re.sub(" +", " ", line) for line in text.splitlines()]


def test_add_list_show_delete(control: Control, ctl: Ctl) -> None:
    assert ctl("uplink list") == 0 and "uplink add NAME --pci ADDRESS" in ctl.out
    add = f"uplink add up0 --pci {NIC} --physnet physnet1 --create-segment"
    assert ctl(f"{add} --vlan 100=blue --vlan untagged=mgmt --mtu 9000 --ring-size 512") == 0
    assert ctl.out == f"uplink up0 added: {NIC}, link waiting\n"
    assert ctl(add) == 0 and ctl.out == f"uplink up0 is so already: {NIC}, link waiting\n"
    control.fabric.lives[0] = UP
    assert ctl(f"uplink add up0 --pci {NIC} --zero-copy --down") == 0
    assert ctl.out == f"uplink up0 changed: {NIC}, link down\n"
    assert ctl(f"uplink add up0 --pci {NIC} --no-zero-copy --up") == 0
    assert ctl("uplink list") == 0
    assert squeezed(ctl.out) == [
        "NAME DEVICE PHYSNET LINK SPEED DRIVER QUEUES VLANS IN OUT IN DROPS OUT DROPS MISSED",
        f"up0 {NIC} physnet1 up 1 Gbit/s igb 2 untagged=mgmt 100=blue 12 5 0 2 4",
    ]
    assert ctl("uplink show up0") == 0
    for words in ("Device +0000:05:00.0", "Speed +1 Gbit/s", "Driver +igb", "DMA memory +8.0 MiB",
                  "Device id +8086:10c9", "rx_missed 4", "Resets +1", "Ring size +512",
                  "2 link_down"):  # fmt: skip
        assert re.search(words, ctl.out), words
    assert ctl("uplink delete up0 up1") == 0
    assert ctl.out == "uplink up0 deleted\n" and "up1 did not exist" in ctl.err


def test_rows_are_replaced_as_a_whole(control: Control, ctl: Ctl) -> None:
    add = "uplink add up0 --ifname eth7 --create-segment"
    assert ctl(f"{add} --vlan 100=blue --vlan untagged=mgmt") == 0
    assert ctl(f"{add} --vlan 200=red") == 0
    assert ctl("uplink show up0 -f json") == 0
    port = json.loads(ctl.out)["uplink"]["port"]
    assert (port["segment"], port["trunk"]) == (None, [{"vid": 200, "segment": "red"}])
    assert ctl("show") == 0 and "eth7" in ctl.out
    assert ctl("port show up0") == 0 and "Physnet" in ctl.out and "PCI" not in ctl.out


def test_json_has_everything(control: Control, ctl: Ctl) -> None:
    assert ctl(f"uplink add up0 --pci {NIC} -f json") == 0
    assert json.loads(ctl.out)["port"]["pci"] == NIC
    control.fabric.lives[0] = UP
    assert ctl("uplink show up0 -f json") == 0
    shown = json.loads(ctl.out)
    assert shown["uplink"]["adapter"]["counters"] == ADAPTER.counters and shown["drops"]
    assert ctl("uplink list -f json") == 0
    (row,) = json.loads(ctl.out)
    assert (row["speed_mbps"], row["mac"], row["in_frames"]) == (1000, "52:54:00:00:00:01", 12)
    assert ctl("uplink list -f value -c name -c resets") == 0 and ctl.out.split() == ["up0", "1"]


def test_a_waiting_uplink_says_why(control: Control, ctl: Ctl) -> None:
    assert ctl(f"uplink add up0 --pci {NIC}") == 0
    control.fabric.lives[0] = PortLive(link=Link.WAITING, last_error="no such device")
    assert ctl("uplink list") == 0
    assert "REASON" in ctl.out and "no such device" in ctl.out
    assert ctl(f"uplink add up0 --pci {NIC}") == 0
    assert ctl.out == f"uplink up0 is so already: {NIC}, link waiting (no such device)\n"


def test_rates(control: Control, ctl: Ctl, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ctl(f"uplink add up0 --pci {NIC}") == 0
    control.fabric.lives[0] = UP
    monkeypatch.setattr("vif_uswitch.cmd.uplink.time.sleep", lambda _: None)
    assert ctl("uplink list --rates") == 0
    assert "IN FRAMES/S" in ctl.out and "OUT MBIT/S" in ctl.out


def test_waiting_for_the_link(control: Control, ctl: Ctl) -> None:
    assert ctl(f"uplink add up0 --pci {NIC} --wait --wait-timeout 0") == 5
    assert "Plug in the cable" in ctl.err
    control.fabric.lives[0] = UP
    assert ctl(f"uplink add up0 --pci {NIC} --wait") == 0 and "link up" in ctl.out


@pytest.mark.parametrize(
    ("line", "status", "words"),
    [
        ("uplink add up0", 2, "--pci --ifname"),
        (f"uplink add up0 --pci {NIC} --ifname eth7", 2, "not allowed with"),
        (f"uplink add up0 --pci {NIC} --vlan 100:blue", 2, "not VID=SEGMENT, for example 100=blue"),
        (f"uplink add up0 --pci {NIC} --vlan x=blue", 2, "untagged=mgmt"),
        (f"uplink add up0 --pci {NIC} --vlan 5=", 2, "not VID=SEGMENT"),
        (f"uplink add up0 --pci {NIC} --vlan untagged=a --vlan untagged=b", 2, "twice: a and b"),
        (f"uplink add up0 --pci {NIC} --up --down", 2, "exclude each other"),
        (f"uplink add up0 --pci {NIC} --vlan 4095=a", 1, "vid 4095"),
        (f"uplink add up0 --pci {NIC} --vlan 5=a", 4, "segment a: does not exist"),
        ("uplink add up0 --pci 0:5:0", 1, "pci 0:5:0: is malformed"),
        (f"uplink add vm1 --pci {NIC}", 1, "exists with type vhost-user, not nic"),
        (f"uplink add up1 --pci {NIC} --vlan 5=s --vlan 5=t --create-segment", 1,
         "VLAN id 5: has two rows"),
        ("uplink show vm1", 4, "is no uplink"),
        ("uplink show no", 4, "uplink no: does not exist"),
        ("uplink delete vm1", 4, "is no uplink"),
    ],
)  # fmt: skip
def test_mistakes(control: Control, ctl: Ctl, line: str, status: int, words: str) -> None:
    assert ctl("port add vm1") == 0
    assert ctl(line) == status
    assert words in ctl.err


def test_refused_by_the_host(control: Control, ctl: Ctl) -> None:
    control.fabric.fail["up0"] = Conflict("adapter", NIC, "is driven by igb", "Bind it.")
    assert ctl(f"uplink add up0 --pci {NIC}") == 1
    assert ctl.err == f"uswitchctl: adapter {NIC}: is driven by igb. Bind it.\n"

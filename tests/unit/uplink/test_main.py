# SPDX-License-Identifier: Apache-2.0
"""The command as an operator meets it: list, its JSON, errors and exit status; and its size."""

from __future__ import annotations

import ast
import json
import os
import re
from pathlib import Path

import pytest

from tests.unit.uplink.fake_host import NIC, FakeHost
from vif_uswitch.exceptions import USwitchError
from vif_uswitch.uplink import devices, listing
from vif_uswitch.uplink import main as main_module
from vif_uswitch.uplink.host import run_program
from vif_uswitch.uplink.main import main

TOP = Path(__file__).resolve().parents[3]
# All that changes a host; the rest reads, decides and prints.
PRIVILEGED = ("root.py", "binding.py")
XDP = ("xdp.py", "xdp_program.py")  # all of uswitch-xdp but its questions
PRIVILEGED_LINES = 300
UDEV_NAMES = listing.udev_names


@pytest.fixture(autouse=True)
def root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)


@pytest.fixture(autouse=True)
def names(monkeypatch: pytest.MonkeyPatch) -> None:
    named = {NIC: ("Intel Corporation", "82576 Gigabit\x1b[2J")}
    monkeypatch.setattr(listing, "udev_names", lambda: named)


def test_list(host: FakeHost, capsys: pytest.CaptureFixture[str]) -> None:
    host.nic("0000:04:00.0", ids=(0x8086, 0x1572), driver="i40e", group="", interface="eth2")
    host.nic("0000:00:1f.2", ids=(0x8086, 0x2922), driver="ahci", interface="", pci_class=0x010601,
             group="2")  # fmt: skip
    host.put("/sys/class/net/eth2/speed", "-1\n")
    host.put("/sys/class/net/eth2/operstate", "down\n")
    assert main(["list"], host) == 0
    assert capsys.readouterr().out == (
        "ADDRESS       IDS        MODEL                 DRIVER  INTERFACE  LINK      GROUP  SWITCH"
        "  STATE\n"
        "0000:03:00.0  8086:10c9  82576 Gigabit\\x1b[2J  igb     eth1       up 1000M      7  igb   "
        "  free\n"
        "0000:04:00.0  8086:1572  -                     i40e    eth2       down          -  -     "
        "  refused\n"
        "\n"
        "0000:04:00.0: the switch has no driver for 8086:1572 (there are igb, ixgbe and"
        " virtio_pci)\n"
        "  Leave it to the kernel and use AF_XDP (uswitchctl uplink add --ifname).\n"
        "\n"
        "0000:04:00.0: no IOMMU stands between it and the host's memory\n"
        "  Enable it in the firmware (VT-d, AMD-Vi) and on the kernel's command line"
        " (intel_iommu=on). Or: Leave it to the kernel and use AF_XDP (uswitchctl uplink add"
        " --ifname).\n"
    )


def test_list_as_json(host: FakeHost, capsys: pytest.CaptureFixture[str]) -> None:
    host.give_address("eth1", "192.0.2.9", 24)
    assert main(["list", "-f", "json"], host) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row.pop("why_not") == [{
        "why": "eth1 has the address 192.0.2.9/24",
        "todo": "You may be connected through it. Move the address to another adapter, or delete"
                " it: ip address flush dev eth1",
    }]  # fmt: skip
    assert row == {
        "address": NIC, "vendor_id": "8086", "device_id": "10c9", "vendor": "Intel Corporation",
        "model": "82576 Gigabit\x1b[2J", "kernel_driver": "igb",
        "interfaces": [{"name": "eth1", "mac": "52:54:00:00:00:01", "link": "up",
                        "speed_mbps": 1000, "addresses": ["192.0.2.9/24"]}],
        "iommu_group": 7, "switch_driver": "igb", "state": "refused",
        "group_devices": [{"address": NIC, "ids": "8086:10c9", "kernel_driver": "igb"}],
    }  # fmt: skip


def test_bind_and_unbind(host: FakeHost, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bind", NIC], host) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"undo: uswitch-uplink unbind {NIC}"
    assert listing.rows(host)[0]["state"] == "bound"
    assert main(["restore"], host) == 0
    assert main(["unbind", NIC], host) == 0
    assert host.driver_of() == "igb" and listing.rows(host)[0]["state"] == "free"


def test_errors(host: FakeHost, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bind", "0000:09:00.0"], host) == 4
    assert capsys.readouterr().err.startswith("uswitch-uplink: PCI device 0000:09:00.0: does not")
    host.put("/etc/uswitch/uplinks.d/strange.conf", "")
    assert main(["restore"], host) == 1
    assert "PCI address strange: is malformed" in capsys.readouterr().err
    with pytest.raises(SystemExit) as usage:
        main(["bind"], host)
    assert usage.value.code == 2


def test_only_root_changes_anything(
    host: FakeHost, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    for command in (["bind", NIC], ["unbind", NIC], ["restore"]):
        assert main(command, host) == 1
        assert capsys.readouterr().err == (
            f"uswitch-uplink: uswitch-uplink {command[0]}: changes the host, which only root may\n")
    assert main(["list"], host) == 0 and not host.writes


def test_programs_end_or_are_reported() -> None:
    assert run_program(["echo", "a  b"]) == "a  b\n"
    with pytest.raises(USwitchError, match=r"command sh -c .*: failed \(3\): no way"):
        run_program(["sh", "-c", "echo no way >&2; exit 3"])
    with pytest.raises(USwitchError, match="could not be run"):
        run_program(["no-such-program"])


def test_names_come_from_udev() -> None:
    pytest.importorskip("pyudev")
    listed = UDEV_NAMES()
    assert set(listed) == set(os.listdir("/sys/bus/pci/devices") if listed else ())


def test_the_dataplane_drives_what_the_helper_takes() -> None:
    """The two tables of PCI ids are one."""
    tables = {}
    for path in (TOP / "dataplane/nic").glob("*.c"):
        text = path.read_text("utf-8")
        found = re.search(r"struct nic_id (\w+)_ids\[\] = \{(.*?)\n\};", text, re.S)
        if found:
            ids = re.findall(r"\{ (0x[0-9a-f]{4}), (0x[0-9a-f]{4}),", found[2])
            tables[path.stem] = {(int(vendor, 16), int(device, 16)) for vendor, device in ids}
    for driver, ids_of in tables.items():
        assert ids_of == {one for one, name in devices.known().items() if name == driver}, driver


def test_the_privileged_part_is_small() -> None:
    where = Path(main_module.__file__).parent
    for program in (PRIVILEGED, XDP):
        lines = {name: code_lines((where / name).read_text("utf-8")) for name in program}
        assert sum(lines.values()) <= PRIVILEGED_LINES, lines


def code_lines(text: str) -> int:
    """Lines with statements: no blank ones, comments, or docstrings."""
    used: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.stmt) and not (
            isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        ):
            body = getattr(node, "body", None)
            end = body[0].lineno if body else (node.end_lineno or node.lineno) + 1
            used |= {node.lineno, *range(node.lineno, end)}
    return len([number for number in used if text.splitlines()[number - 1].strip()])

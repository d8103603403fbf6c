# SPDX-License-Identifier: Apache-2.0
"""The command as an operator meets it: list, its JSON, errors and exit status; and its size."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from tests.unit.layering import OURS, python_graph
from tests.unit.uplink.fake_host import NIC, FakeHost
from vif_uswitch.uplink import cli, devices, listing
from vif_uswitch.uplink import main as helper
from vif_uswitch.uplink.host import NOBODY, Refused, RootHost, run_program
from vif_uswitch.uplink.main import main

TOP = Path(__file__).resolve().parents[3]
# Of all that runs with root's rights: statements, comments and docstrings.
PRIVILEGED_LINES = 300
XDP = ("xdp.py", "xdp_program.py")
XDP_LINES = 320  # what they have
UDEV_NAMES = listing.udev_names


@pytest.fixture(autouse=True)
def as_root(monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert cli.main(["list"], host) == 0
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
    assert cli.main(["list", "-f", "json"], host) == 0
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


def test_addresses_in_any_form_are_one(
    host: FakeHost, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bind", "03:00.0", NIC, NIC], host) == 0
    assert f"undo: uswitch-uplink unbind {NIC}\n" in capsys.readouterr().out


def test_errors(host: FakeHost, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bind", "0000:09:00.0"], host) == 4
    assert capsys.readouterr().err.startswith("uswitch-uplink: PCI device 0000:09:00.0: does not")
    assert main(["unbind", "0000:09:00.0", NIC], host) == 4
    assert capsys.readouterr().out == f"{NIC}: the switch does not have it\n"


WORDS = [
    ["eth1"], [""], ["03:00"], ["0000:03:00.8"], ["0000:03:00.0/../.."], ["../0000:03:00.0"],
    ["0000:03:00.0\n"], ["0000:03:00.0 "], ["\u0660000:03:00.0"], [NIC, "0000:03"],
]  # fmt: skip


@pytest.mark.parametrize("words", [["-f"], [], ["--help"], *WORDS])
def test_what_is_no_change_is_left_to_nobody(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    left: list[list[str]] = []

    def leave(line: list[str]) -> int:
        left.append(line)
        return 7

    monkeypatch.setattr(helper, "_leave", leave)
    for line in (["bind", *words], ["unbind", *words], ["list"], ["restore", NIC], [], ["strange"]):
        assert main(line, host) == 7 and left[-1] == line
    assert not host.commands and not host.writes


@pytest.mark.parametrize("words", WORDS)
def test_a_malformed_address(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("bind", "unbind"):
        assert cli.main([command, *words]) == 1
        assert "looks like 0000:03:00.0. 'uswitch-uplink list' shows" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["bind"], ["unbind", "--", NIC], ["restore", NIC], [], ["x"]])
def test_wrong_usage(words: list[str]) -> None:
    with pytest.raises(SystemExit) as usage:
        cli.main(words)
    assert usage.value.code == 2


def test_leaving_takes_the_rights(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[object] = []
    for name in ("chdir", "setgroups", "setgid", "setuid"):
        monkeypatch.setattr(os, name, done.append)
    monkeypatch.setattr(os, "execv", lambda program, words: done.append(words[1:]))
    main(["list", "-f", "json"])
    assert done == [TOP, [], NOBODY, NOBODY, ["-m", "vif_uswitch.uplink.cli", "list", "-f", "json"]]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can run something as nobody")
def test_the_checks_are_a_program_without_rights() -> None:
    assert run_program(["id", "-u"], NOBODY) == f"{NOBODY}\n"
    assert run_program(["id", "-G"], NOBODY) == f"{NOBODY}\n"
    with pytest.raises(Refused, match=r"PCI device ffff:ff:1f\.7: does not exist") as caught:
        RootHost().check("bind", ["ffff:ff:1f.7"])
    assert caught.value.status == 4


def test_only_root_changes_anything(
    host: FakeHost, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(helper, "_leave", lambda words: cli.main(words, host))
    for command in (["bind", NIC], ["unbind", NIC], ["restore"]):
        assert main(command, host) == 1
        assert capsys.readouterr().err == (
            f"uswitch-uplink: uswitch-uplink {command[0]}: changes the host, which only root may\n")
    assert cli.main(["list"], host) == 0 and not host.writes


def test_programs_end_or_are_reported() -> None:
    assert run_program(["echo", "a  b"]) == "a  b\n"
    with pytest.raises(OSError, match=r"command sh -c .*: failed \(3\): no way"):
        run_program(["sh", "-c", "echo no way >&2; exit 3"])
    with pytest.raises(OSError, match="could not be run"):
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
    """Whatever the program that root starts imports, of ours, and what that imports."""
    sources = {str(path.relative_to(TOP)): path.read_text("utf-8")
               for path in (TOP / OURS).rglob("*.py")}  # fmt: skip
    graph = python_graph(sources)
    reached, todo = set(), [f"{OURS}.uplink.main"]
    while todo:
        module = todo.pop()
        if module in graph and module not in reached:
            reached.add(module)
            todo += [*graph[module], module.rpartition(".")[0]]
    assert reached == {OURS, *(f"{OURS}.uplink{name}" for name in ("", ".host", ".main"))}
    lines = {module: _lines(_text(sources, module)) for module in reached}
    assert sum(lines.values()) <= PRIVILEGED_LINES, lines


def test_so_is_all_of_the_other_helper_but_its_questions() -> None:
    where = TOP / OURS / "uplink"
    lines = {name: _lines((where / name).read_text("utf-8")) for name in XDP}
    assert sum(lines.values()) <= XDP_LINES, lines


def _lines(text: str) -> int:
    return len([line for line in text.splitlines() if line.strip()])


def _text(sources: dict[str, str], module: str) -> str:
    path = module.replace(".", "/")
    return sources.get(f"{path}.py") or sources[f"{path}/__init__.py"]

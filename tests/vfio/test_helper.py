# SPDX-License-Identifier: Apache-2.0
"""uswitch-uplink on a real kernel: it takes an adapter from its driver, and gives it back."""

from __future__ import annotations

from typing import Any

from testbed.vfio_guest import USER, Nested

from .conftest import Lab


def _helper(host: Nested, *words: str) -> dict[str, Any]:
    done: dict[str, Any] = host.call("tests.vfio.steps", "uplink_helper", words=list(words))
    return done


def _done(host: Nested, *words: str) -> str:
    done = _helper(host, *words)
    assert done["rc"] == 0, done
    return str(done["out"])


def _rows(host: Nested) -> dict[str, dict[str, Any]]:
    rows: list[dict[str, Any]] = host.call("tests.vfio.steps", "uplink_list")
    return {row["address"]: row for row in rows}


def _state(host: Nested, address: str) -> tuple[str, str]:
    row = _rows(host)[address]
    return row["kernel_driver"], row["state"]


def test_bind_and_unbind(lab: Lab, host: Nested) -> None:
    """The group's device belongs to the switch's group while the adapter is bound."""
    address = lab.cards["spare"].address
    assert _state(host, address) == ("igb", "free")
    said = _done(host, "bind", address)
    assert f"undo: uswitch-uplink unbind {address}" in said
    assert _state(host, address) == ("vfio-pci", "bound")
    node = f"/dev/vfio/{host.group(address)}"
    assert host.must(f"stat -c '%G %a' {node}").split() == [USER, "660"]
    host.call("tests.vfio.steps", "hold", path=node)
    try:
        refused = _helper(host, "unbind", address)
    finally:
        host.call("tests.vfio.steps", "let_go")
    assert refused["rc"] == 1, refused
    assert "has it open" in refused["err"]
    _done(host, "unbind", address)
    assert _state(host, address) == ("igb", "free")


def test_refuses_what_the_host_needs(lab: Lab, host: Nested) -> None:
    """An adapter with an address, and one whose group has a device that the kernel drives."""
    address, (ours, _, other) = lab.cards["spare"].address, lab.neighbours
    ifname = host.must(f"ls /sys/bus/pci/devices/{address}/net").strip()
    host.must(f"ip address add 10.8.0.1/24 dev {ifname}")
    try:
        rows = _rows(host)
        refused = _helper(host, "bind", address)
    finally:
        host.must(f"ip address flush dev {ifname}")
    assert rows[address]["state"] == rows[ours]["state"] == "refused"
    assert f"{ifname} has the address 10.8.0.1/24" in rows[address]["why_not"][0]["why"]
    assert f"{other} (1af4:1041, virtio-pci)" in rows[ours]["why_not"][0]["why"]
    assert refused["rc"] == 1, refused
    assert f"{ifname} has the address 10.8.0.1/24" in refused["err"]
    assert host.driver(address) == "igb"

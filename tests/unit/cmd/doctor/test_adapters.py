# SPDX-License-Identifier: Apache-2.0
"""IOMMU-01..02, LOCK-01: what an adapter that the switch drives needs."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from tests.unit.cmd.doctor.conftest import Expect
from tests.unit.cmd.doctor.fake_root import DATAPLANE_PID, FakeRoot

ADDRESS = "0000:03:00.0"
OTHER = "0000:03:00.1"
DEVICES = "/sys/bus/pci/devices"
LIMITS = f"/proc/{DATAPLANE_PID}/limits"


def test_an_adapter_of_its_own_group(host: FakeRoot, expect: Expect) -> None:
    assert "dmar0" in expect("IOMMU-01", "PASS").text
    assert f"{ADDRESS}: on vfio" in expect("IOMMU-02", "PASS").text


def test_no_iommu(host: FakeRoot, expect: Expect) -> None:
    shutil.rmtree(host.at("/sys/class/iommu"))
    assert ADDRESS in expect("IOMMU-01", "FAIL").text
    host.client.uplinks = []
    shutil.rmtree(host.at("/etc/uswitch"))
    assert "AF_XDP" in expect("IOMMU-01", "WARN").todo
    expect("IOMMU-02", "SKIP")
    expect("LOCK-01", "SKIP")


def test_the_kernel_has_the_adapter(host: FakeRoot, expect: Expect) -> None:
    host.link(f"{DEVICES}/{ADDRESS}/driver", "../../drivers/igb")
    assert "driven by igb" in expect("IOMMU-02", "FAIL").text
    host.at(f"{DEVICES}/{ADDRESS}/driver").unlink()
    assert "driven by nobody" in expect("IOMMU-02", "FAIL").text
    shutil.rmtree(host.at(f"{DEVICES}/{ADDRESS}"))
    assert "not in this host any more" in expect("IOMMU-02", "FAIL").text


@pytest.mark.parametrize(("driver", "device_class", "status"), [
    ("igb", "0x020000", "FAIL"), ("vfio-pci", "0x020000", "PASS"), ("", "0x020000", "PASS"),
    ("pcieport", "0x060400", "PASS"), ("shpchp", "0x060400", "PASS"),
])
def test_others_in_the_group(
    host: FakeRoot, expect: Expect, driver: str, device_class: str, status: str
) -> None:
    host.mkdir(f"/sys/kernel/iommu_groups/7/devices/{OTHER}")
    host.put(f"{DEVICES}/{OTHER}/class", device_class)
    if driver:
        host.link(f"{DEVICES}/{OTHER}/driver", f"../../drivers/{driver}")
    found = expect("IOMMU-02", status)
    assert status != "FAIL" or f"{OTHER} ({driver})" in found.text


def test_no_group(host: FakeRoot, expect: Expect) -> None:
    host.at(f"{DEVICES}/{ADDRESS}/iommu_group").unlink()
    assert "no IOMMU group" in expect("IOMMU-02", "FAIL").text


def test_names_that_are_no_adapters(host: FakeRoot, expect: Expect) -> None:
    host.put("/etc/uswitch/uplinks.d/..%2f.conf")
    host.put("/etc/uswitch/uplinks.d/README")
    expect("IOMMU-02", "PASS")


def limit(host: FakeRoot, text: str) -> None:
    host.put(LIMITS, f"Limit   Soft Limit   Hard Limit   Units\nMax locked memory  {text}\n")


def test_locked_memory(host: FakeRoot, expect: Expect) -> None:
    assert expect("LOCK-01", "PASS").text == "6.0 MiB for adapters; allowed: 64.0 MiB"
    limit(host, "4194304 4194304 bytes")
    assert "LimitMEMLOCK=6M" in expect("LOCK-01", "FAIL").todo
    limit(host, "unlimited unlimited bytes")
    assert "allowed: any" in expect("LOCK-01", "PASS").text
    host.client.uplinks[0]["port"]["reason"] = "it needs 66 MiB of locked memory, and ..."
    assert "wire needs more" in expect("LOCK-01", "FAIL").text
    host.put(LIMITS, "garbage")
    expect("LOCK-01", "SKIP")
    host.client.dataplane = {"running": False, "pid": 0}
    host.at(f"/proc/{DATAPLANE_PID}/cmdline").unlink()
    expect("LOCK-01", "SKIP")


def xdp(host: FakeRoot, **more: Any) -> dict[str, Any]:
    """The only uplink, by AF_XDP, with two queues."""
    port = {"name": "wire", "ifname": "eth1", "queues": 2, "mtu": 1500, "link": "up", "reason": ""}
    one = {"port": port, "adapter": None, "ring_size": 0, "zero_copy": True, **more}
    host.client.uplinks = [one]
    host.client.ports = [{"name": "a"}]
    host.client.memory = {"a": 1 << 30}  # zero copy of AF_XDP locks no guest
    return port


def test_af_xdp_locks_memory(host: FakeRoot, expect: Expect) -> None:
    port = xdp(host)
    assert expect("LOCK-01", "PASS").text.startswith("8.0 MiB for AF_XDP, beside whatever else")
    port["mtu"] = 9000
    assert expect("LOCK-01", "PASS").text.startswith("16.0 MiB")
    limit(host, "8388608 8388608 bytes")
    assert "LimitMEMLOCK=16M" in expect("LOCK-01", "FAIL").todo
    xdp(host, ring_size=4096)
    assert "LimitMEMLOCK=32M" in expect("LOCK-01", "FAIL").todo
    xdp(host, adapter={"pool_bytes": 5 << 20})
    assert expect("LOCK-01", "PASS").text.startswith("5.0 MiB")


@pytest.mark.parametrize("reason", ["network device eth1: Disk quota exceeded", "errno EDQUOT"])
def test_af_xdp_that_waits_for_memory(host: FakeRoot, expect: Expect, reason: str) -> None:
    """Others of the same user may have locked all there is."""
    xdp(host)["reason"] = reason
    assert "wire needs more locked memory than 64.0 MiB" in expect("LOCK-01", "FAIL").text


def test_adapters_and_af_xdp_together(host: FakeRoot, expect: Expect) -> None:
    """Whether they are counted together depends on the kernel's way to an adapter."""
    adapter = host.client.uplinks[0]
    xdp(host)
    host.client.uplinks.append(adapter)
    assert "6.0 MiB for adapters and 8.0 MiB for AF_XDP" in expect("LOCK-01", "PASS").text
    limit(host, "10485760 10485760 bytes")
    assert "LimitMEMLOCK=14M" in expect("LOCK-01", "WARN").todo


def test_zero_copy_locks_the_guests(host: FakeRoot, expect: Expect) -> None:
    host.client.uplinks[0]["zero_copy"] = True
    host.client.ports = [{"name": "a"}, {"name": "b"}]
    host.client.memory = {"a": 100 << 20, "b": 200 << 20}
    found = expect("LOCK-01", "FAIL")
    assert "300.0 MiB of guests' memory" in found.text and "LimitMEMLOCK=306M" in found.todo

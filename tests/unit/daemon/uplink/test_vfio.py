# SPDX-License-Identifier: Apache-2.0
"""Opening adapters on a make-believe kernel: both ways, and every reason why not."""

from __future__ import annotations

import errno
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import pytest

from tests.unit.daemon.uplink.kernel_rig import NIC, Kernel
from vif_uswitch.daemon.uplink import pci, vfio
from vif_uswitch.exceptions import (
    Busy,
    Conflict,
    Forbidden,
    InvalidInput,
    NotFound,
    Unavailable,
    USwitchError,
)


@pytest.fixture
def kernel(tmp_path: pathlib.Path) -> Iterator[Kernel]:
    before = len(os.listdir("/proc/self/fd"))
    yield Kernel(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before, "descriptors are left open"


def opened(kernel: Kernel) -> tuple[bool, int]:
    """Opens the adapter and closes it; which way, and how many descriptors it had."""
    device = vfio.open_device(NIC, kernel.system)
    try:
        assert not any(os.get_inheritable(fd) for fd in device.fds)
        return device.iommufd, len(device.fds)
    finally:
        device.close()
        device.close()  # twice does no harm


def test_container_and_group(kernel: Kernel) -> None:
    kernel.add()
    assert opened(kernel) == (False, 3)
    assert kernel.calls == [
        ("vfio/vfio", "GET_API_VERSION"),
        ("vfio/vfio", "CHECK_EXTENSION"),
        ("vfio/7", "GROUP_GET_STATUS"),
        ("vfio/7", "GROUP_SET_CONTAINER"),
        ("vfio/vfio", "SET_IOMMU"),
        ("vfio/7", "GROUP_GET_DEVICE_FD"),
    ]
    assert kernel.asked_for == NIC + "\0"


def test_device_file_and_iommufd_where_there_are_both(kernel: Kernel) -> None:
    kernel.add(cdev="vfio3")
    assert opened(kernel) == (True, 2)
    assert kernel.calls == [("vfio/devices/vfio3", "DEVICE_BIND_IOMMUFD")]
    assert kernel.bound[0] == 16 and kernel.bound[2] > 2


def test_a_group_will_do_without_iommufd(kernel: Kernel) -> None:
    kernel.add(cdev="vfio3")
    (kernel.dev / "iommu").unlink()
    assert opened(kernel) == (False, 3)


@pytest.mark.parametrize("denied", ["/vfio/devices/vfio3", "/iommu"])
def test_the_node_that_we_may_use_is_taken(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch, denied: str
) -> None:
    kernel.add(cdev="vfio3")
    monkeypatch.setattr(os, "access", lambda path, mode: not path.endswith(denied))
    assert opened(kernel) == (False, 3)


def test_variant_drivers_of_vendors_are_vfio_too(kernel: Kernel) -> None:
    kernel.add()
    kernel.drive(NIC, "mlx5_vfio_pci")
    assert opened(kernel) == (False, 3)


def refused(kernel: Kernel, kind: type[USwitchError], *words: str) -> None:
    with pytest.raises(kind) as caught:
        vfio.open_device(NIC, kernel.system)
    for word in words:
        assert word in str(caught.value)


def test_no_such_device(kernel: Kernel) -> None:
    refused(kernel, NotFound, f"PCI device {NIC}: does not exist", "uswitch-uplink list")


def test_something_else_than_an_adapter(kernel: Kernel) -> None:
    kernel.add(class_=0x010802)
    refused(kernel, InvalidInput, NIC, "is no network adapter (class 01)", "uswitch-uplink list")


def test_an_adapter_that_the_switch_has_no_driver_for(kernel: Kernel) -> None:
    """Said before anybody takes it from the kernel in vain."""
    kernel.add(driver="mlx5_core", ids=(0x15B3, 0x1017), ifname="eth9")
    refused(
        kernel, InvalidInput, f"{NIC} (15b3:1017)", "no driver of this switch knows",
        "AF_XDP: --ifname eth9",
    )  # fmt: skip
    kernel.drive(NIC, "vfio-pci")
    refused(kernel, InvalidInput, "no driver of this switch knows")


def test_driven_by_the_kernel(kernel: Kernel) -> None:
    kernel.add(driver="igb", ifname="eth7")
    refused(
        kernel, Conflict, f"{NIC} (8086:10c9)", "driven by the kernel's igb, not by vfio-pci",
        f"uswitch-uplink bind {NIC}", "AF_XDP: --ifname eth7",
    )  # fmt: skip
    kernel.drive(NIC, "")
    refused(kernel, Conflict, "has no driver")


def test_no_iommu(kernel: Kernel) -> None:
    kernel.add(group="")
    refused(kernel, Unavailable, "no IOMMU stands between", "intel_iommu=on", "--ifname")


def test_no_iommu_mode_by_node_or_by_name(kernel: Kernel) -> None:
    kernel.add()
    (kernel.dev / "vfio/noiommu-7").touch()
    refused(kernel, Forbidden, NIC, "no-IOMMU mode", "enable_unsafe_noiommu_mode")
    (kernel.dev / "vfio/noiommu-7").unlink()
    kernel.write("kernel/iommu_groups/7/name", "vfio-noiommu\n")
    refused(kernel, Forbidden, "no-IOMMU mode")


@pytest.mark.parametrize("module", ["vfio_iommu_type1", "iommufd"])
def test_unsafe_interrupts(kernel: Kernel, module: str) -> None:
    kernel.add()
    path = f"module/{module}/parameters/allow_unsafe_interrupts"
    kernel.write(path, "N\n")
    opened(kernel)
    kernel.write(path, "Y\n")
    words = (f"allow_unsafe_interrupts of module {module}", f"echo N > /sys/{path}")
    refused(kernel, Forbidden, *words)


def test_a_group_with_devices_of_the_kernel(kernel: Kernel) -> None:
    kernel.add()
    kernel.add("0000:05:00.1", "igb")
    kernel.add("0000:00:1c.0", "pcieport", class_=0x060400)
    kernel.group_flags = 0
    refused(
        kernel, Conflict, "shares IOMMU group 7", "0000:05:00.1 (igb)", "0000:00:1c.0 (pcieport)",
        "(0000:05:00.1)", "--ifname",
    )  # fmt: skip


@pytest.mark.parametrize("missing", ["vfio/vfio", "vfio/7"])
def test_a_node_is_missing(kernel: Kernel, missing: str) -> None:
    kernel.add()
    (kernel.dev / missing).unlink()
    refused(kernel, NotFound, str(kernel.dev / missing), "modprobe vfio-pci", f"bind {NIC}")


@pytest.mark.parametrize("cdev", ["", "vfio3"])
def test_no_permission(kernel: Kernel, monkeypatch: pytest.MonkeyPatch, cdev: str) -> None:
    """As root no mode of a file stops anybody: the refusal is the test's own."""
    kernel.add(cdev=cdev)
    node = kernel.dev / (f"vfio/devices/{cdev}" if cdev else "vfio/7")
    real = os.open

    def refuse(path: Any, flags: int, *more: Any) -> int:
        if str(path) == str(node):
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, flags, *more)

    node.chmod(0o600)
    monkeypatch.setattr(os, "open", refuse)
    refused(
        kernel, Forbidden, str(node), "mode 0600", "IOMMU group 7", "uswitchd runs as user",
        f"uswitch-uplink bind {NIC}", "udev rule",
    )  # fmt: skip


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EIO])
def test_a_node_that_cannot_be_opened(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    kernel.add()
    real = os.open

    def refuse(path: Any, flags: int, *more: Any) -> int:
        if str(path).endswith("/vfio/7"):
            raise OSError(number, os.strerror(number))
        return real(path, flags, *more)

    monkeypatch.setattr(os, "open", refuse)
    if number == errno.EBUSY:
        refused(kernel, Busy, NIC, "another process uses it", "fuser -v")
    else:
        refused(kernel, Unavailable, "cannot be opened", os.strerror(number))


def test_another_interface(kernel: Kernel) -> None:
    kernel.add()
    kernel.version = 1
    refused(kernel, Unavailable, "version 1")
    kernel.version, kernel.has_type1 = 0, 0
    refused(kernel, Unavailable, "type 1, version 2", "modprobe vfio_iommu_type1")


@pytest.mark.parametrize(
    ("request_", "number", "kind", "word"),
    [
        ("GET_API_VERSION", errno.ENOTTY, Unavailable, "version"),
        ("GROUP_GET_STATUS", errno.ENOTTY, Unavailable, "looking at its group"),
        ("GROUP_SET_CONTAINER", errno.EBUSY, Busy, "another process uses it"),
        ("SET_IOMMU", errno.EPERM, Forbidden, "remap interrupts"),
        ("GROUP_GET_DEVICE_FD", errno.EBUSY, Busy, "another process uses it"),
        ("GROUP_GET_DEVICE_FD", errno.ENODEV, Unavailable, "it went away"),
        ("GROUP_GET_DEVICE_FD", errno.EINVAL, Unavailable, "opening it failed: Invalid argument"),
    ],
)
def test_the_kernel_says_no(
    kernel: Kernel, request_: str, number: int, kind: type[USwitchError], word: str
) -> None:
    kernel.add()
    kernel.fail[request_] = number
    refused(kernel, kind, NIC, word)


def test_binding_to_the_iommufd_fails(kernel: Kernel) -> None:
    kernel.add(cdev="vfio3")
    kernel.fail["DEVICE_BIND_IOMMUFD"] = errno.EPERM
    refused(kernel, Forbidden, "binding it to the iommufd", "interrupt")


def test_ids_of_a_device(kernel: Kernel) -> None:
    kernel.add()
    assert pci.ids(NIC, str(kernel.sysfs)) == "8086:10c9"
    assert pci.ids("0000:06:00.0", str(kernel.sysfs)) == ""
    kernel.write(f"bus/pci/devices/{NIC}/vendor", "nonsense")
    assert pci.ids(NIC, str(kernel.sysfs)) == "0000:10c9"

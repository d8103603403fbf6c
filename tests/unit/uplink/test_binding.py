# SPDX-License-Identifier: Apache-2.0
"""Taking an adapter and giving it back: every step, undone when it fails; twice is once."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from tests.unit.uplink.fake_host import NIC, SECOND, FakeHost
from vif_uswitch.uplink import checks
from vif_uswitch.uplink import host as host_module
from vif_uswitch.uplink import main as helper
from vif_uswitch.uplink.host import Refused, RootHost

CONFIG = f"/etc/uswitch/uplinks.d/{NIC}.conf"
RULE = f"/etc/udev/rules.d/60-uswitch-uplink-{NIC}.rules"
BOUND = [
    f"{NIC}: wrote {CONFIG}",
    f"{NIC}: wrote {RULE}",
    f"{NIC}: igb (eth1) -> vfio-pci",
    "/dev/vfio/7: group uswitch, mode 0660",
    "/dev/vfio/devices/vfio0: group uswitch, mode 0660",
    "/dev/iommu: group uswitch, mode 0660",
    f"undo: uswitch-uplink unbind {NIC}",
]


def test_bind(host: FakeHost) -> None:
    assert helper.bind(host, [NIC]) == BOUND
    assert host.driver_of() == "vfio-pci"
    assert [(path.removeprefix("/sys/bus/pci/"), text) for path, text in host.writes] == [
        (f"devices/{NIC}/driver_override", "vfio-pci"),
        (f"devices/{NIC}/driver/unbind", NIC),
        ("drivers_probe", NIC),
    ]
    for node in ("/dev/vfio/7", "/dev/vfio/devices/vfio0", "/dev/iommu"):
        found = host.path(node).stat()
        assert (stat.S_IMODE(found.st_mode), found.st_gid) == (0o660, os.getgid())
    assert host.text(CONFIG).splitlines()[1:] == ["vendor = 0x8086", "device = 0x10c9"]
    assert host.text(RULE).splitlines()[1:] == [
        f'ACTION=="add", SUBSYSTEM=="pci", KERNEL=="{NIC}", ATTR{{vendor}}=="0x8086",'
        ' ATTR{device}=="0x10c9", ATTR{driver_override}="vfio-pci", TAG+="systemd",'
        ' ENV{SYSTEMD_WANTS}+="uswitch-uplink.service"',
        f'SUBSYSTEM=="vfio", TEST=="/sys/kernel/iommu_groups/%k/devices/{NIC}", GROUP="uswitch",'
        ' MODE="0660"',
        f'SUBSYSTEM=="vfio-dev", KERNELS=="{NIC}", GROUP="uswitch", MODE="0660"',
    ]
    assert "udevadm control --reload" in host.commands


def test_bind_twice_is_bind_once(host: FakeHost) -> None:
    helper.bind(host, [NIC])
    before, writes = host.files(), len(host.writes)
    assert helper.bind(host, [NIC]) == [f"{NIC}: was bound already", BOUND[-1]]
    assert host.files() == before and len(host.writes) == writes


def test_bind_again_repairs_what_somebody_changed(host: FakeHost) -> None:
    helper.bind(host, [NIC])
    host.path(RULE).unlink()
    host.path("/dev/vfio/7").chmod(0o600)
    assert helper.bind(host, [NIC]) == [BOUND[1], BOUND[3], BOUND[-1]]


def test_round_trip(host: FakeHost) -> None:
    before = host.files()
    helper.bind(host, [NIC])
    assert helper.unbind(host, [NIC]) == [
        f"{NIC}: vfio-pci -> igb (eth1)", f"{NIC}: removed {RULE}", f"{NIC}: removed {CONFIG}",
    ]  # fmt: skip
    assert host.files() == before
    assert "modprobe -q -- pci:v00008086d000010C9" in host.commands
    assert helper.unbind(host, [NIC]) == [f"{NIC}: the switch does not have it"]


@pytest.mark.parametrize("fail", ["/driver_override", "/driver/unbind"])
def test_a_failed_write_undoes_all(host: FakeHost, fail: str) -> None:
    before = host.files()
    host.fail = fail
    with pytest.raises(Refused) as caught:
        helper.bind(host, [NIC])
    assert str(caught.value) == (f"[Errno 19] No such device: '/sys/bus/pci/devices/{NIC}{fail}'."
                                 " Everything is as before.")
    assert host.files() == before


def test_what_cannot_be_undone_is_told_and_the_rest_is_undone(host: FakeHost) -> None:
    """The way back needs the same probe; the files go nevertheless, and no override stays."""
    host.fail = "/drivers_probe"
    with pytest.raises(Refused) as caught:
        helper.bind(host, [NIC])
    assert str(caught.value) == (
        "[Errno 19] No such device: '/sys/bus/pci/drivers_probe'. NOT undone:"
        f" {NIC} ([Errno 19] No such device: '/sys/bus/pci/drivers_probe').")
    assert host.files() == {NIC: " (null)"}


def test_a_device_that_vfio_does_not_take_goes_back(host: FakeHost) -> None:
    before = host.files()
    host.refuses = True
    with pytest.raises(Refused) as caught:
        helper.bind(host, [NIC])
    assert str(caught.value) == (f"adapter {NIC}: vfio-pci did not take it (it has no driver). The"
                                 " kernel log says why. Everything is as before.")
    assert host.files() == before


def test_no_device_file_is_a_failure(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    before = host.files()
    host.cdev = False
    monkeypatch.setattr(host, "_node", lambda absolute: None)
    monkeypatch.setattr(host, "_detach", lambda address: host.path(
        f"/sys/bus/pci/devices/{address}/driver").unlink())
    with pytest.raises(Refused) as caught:
        helper.bind(host, [NIC])
    assert str(caught.value) == (f"adapter {NIC}: there is no /dev/vfio/7. Is /dev a devtmpfs? The"
                                 " kernel log may say why. Everything is as before.")
    assert host.files() == before


def test_a_file_that_cannot_be_written(host: FakeHost) -> None:
    host.put("/etc/udev/rules.d")  # a file where a directory should be
    before = host.files()
    with pytest.raises(Refused, match="Everything is as before"):
        helper.bind(host, [NIC])
    assert host.files() == before and not host.writes


def test_both_or_none(host: FakeHost) -> None:
    host.nic(SECOND, interface="eth2")
    host.cdev = False
    before = host.files()
    host.fail = f"{SECOND}/driver/unbind"
    with pytest.raises(Refused, match="Everything is as before"):
        helper.bind(host, [NIC, SECOND])
    assert host.files() == before
    host.fail = ""
    said = helper.bind(host, [NIC, SECOND])
    assert said[-1] == f"undo: uswitch-uplink unbind {NIC} {SECOND}"
    assert host.driver_of(NIC) == host.driver_of(SECOND) == "vfio-pci"


def test_the_module_is_loaded_and_unloaded_again(host: FakeHost) -> None:
    (host.path("/sys/bus/pci/drivers/vfio-pci/unbind")).unlink()
    host.path("/sys/bus/pci/drivers/vfio-pci").rmdir()
    host.fail = "modprobe vfio-pci"
    with pytest.raises(OSError, match="command modprobe vfio-pci: failed"):
        helper.bind(host, [NIC])
    host.fail = "/driver/unbind"
    with pytest.raises(Refused):
        helper.bind(host, [NIC])
    assert "modprobe -r vfio-pci" in host.commands
    host.fail = ""
    host.path("/sys/bus/pci/drivers/vfio-pci/unbind").unlink()
    host.path("/sys/bus/pci/drivers/vfio-pci").rmdir()
    assert helper.bind(host, [NIC])[0] == "loaded module vfio-pci"


def test_parameters_that_come_with_the_module_count(host: FakeHost) -> None:
    run = host.run

    def loads(command: object, *user: object) -> str:
        assert isinstance(command, tuple)
        if "vfio_iommu_type1" in command:
            host.parameter("vfio_iommu_type1", "allow_unsafe_interrupts", "Y")
        return run(command, *user)

    host.run = loads
    with pytest.raises(Refused, match="allow_unsafe_interrupts"):
        helper.bind(host, [NIC])
    assert not host.writes


def test_no_udev_and_no_iommufd_are_no_failure(host: FakeHost) -> None:
    host.fail = "udevadm"
    assert helper.bind(host, [NIC]) == BOUND
    helper.unbind(host, [NIC])
    host.fail = "modprobe"
    host.path("/dev/iommu").unlink()
    host.cdev = False
    assert helper.bind(host, [NIC]) == [*BOUND[:4], BOUND[-1]]


def test_the_group_must_exist(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "GROUP", "no-such-group")
    with pytest.raises(Refused) as caught:
        helper.bind(host, [NIC])
    assert str(caught.value) == (
        "group no-such-group: does not exist, and nobody else shall open the adapter. Make it, and"
        " let the daemon's user be in it: groupadd --system no-such-group")
    assert caught.value.status == 4 and not host.writes


def _busy(path: object) -> int:
    """As the kernel answers for a VFIO group that somebody has."""
    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(path))


def test_unbind_refuses_while_somebody_has_it(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper.bind(host, [NIC])
    before = host.files()
    host.put("/proc/4711/comm", "uswitchd\n")
    host.symlink("/proc/4711/fd/5", "/dev/null")
    with monkeypatch.context() as patch, pytest.raises(Refused) as caught:
        patch.setattr(os, "open", lambda path, flags: _busy(path))
        helper.unbind(host, [NIC])
    assert str(caught.value) == (
        f"adapter {NIC}: a process has it open, and the kernel would wait for that without end."
        " Delete the uplink (uswitchctl uplink delete), or stop it.")
    for node in ("/dev/vfio/7", "/dev/vfio/devices/vfio0"):
        host.symlink("/proc/4711/fd/9", str(node))
        with pytest.raises(Refused, match=r"uswitchd \(4711\) has it open"):
            helper.unbind(host, [NIC])
    assert host.files() == before


def test_unbind_leaves_what_is_not_ours(host: FakeHost) -> None:
    helper.bind(host, [NIC])
    host.path(CONFIG).unlink()
    with pytest.raises(Refused, match="is on vfio-pci, but not by uswitch-uplink"):
        helper.unbind(host, [NIC])
    assert host.driver_of() == "vfio-pci"


def test_unbind_of_an_adapter_that_was_pulled_out(host: FakeHost) -> None:
    helper.bind(host, [NIC])
    host.path(f"/sys/bus/pci/devices/{NIC}").rename(host.path("/sys/gone"))
    assert helper.unbind(host, [NIC]) == [
        f"{NIC}: is not in this host any more",
        f"{NIC}: removed {RULE}",
        f"{NIC}: removed {CONFIG}",
    ]
    with pytest.raises(Refused):
        helper.unbind(host, [NIC])


def test_unbind_that_fails_keeps_the_files_and_can_be_repeated(host: FakeHost) -> None:
    before = host.files()
    helper.bind(host, [NIC])
    bound = host.files()
    host.fail = "/driver/unbind"
    with pytest.raises(OSError, match="No such device"):
        helper.unbind(host, [NIC])
    assert {**host.files(), NIC: bound[NIC]} == bound and host.driver_of() == "vfio-pci"
    host.fail = ""
    helper.unbind(host, [NIC])
    assert host.files() == before


def test_unbind_without_a_driver_in_the_kernel(host: FakeHost) -> None:
    host.original[NIC] = ""
    helper.bind(host, [NIC])
    assert helper.unbind(host, [NIC])[0] == (
        f"{NIC}: vfio-pci -> no driver")


def test_unbind_of_an_adapter_that_the_kernel_kept_at_boot(host: FakeHost) -> None:
    before = host.files()
    helper.bind(host, [NIC])
    host.write("/sys/bus/pci/drivers/vfio-pci/unbind", NIC)
    assert host.driver_of() == ""
    assert helper.unbind(host, [NIC]) == [
        f"{NIC}: no driver -> igb (eth1)", f"{NIC}: removed {RULE}", f"{NIC}: removed {CONFIG}",
    ]  # fmt: skip
    assert host.files() == before


def test_restore(host: FakeHost) -> None:
    helper.bind(host, [NIC])
    host.write(f"/sys/bus/pci/devices/{NIC}/driver_override", "\n")
    host.write("/sys/bus/pci/drivers/vfio-pci/unbind", NIC)
    host.write("/sys/bus/pci/drivers_probe", NIC)
    assert host.driver_of() == "igb"  # as after a restart of the host
    assert helper.restore(host, [NIC]) == BOUND[2:5]
    assert helper.restore(host, [NIC]) == [f"{NIC}: was bound already"]


def test_restore_goes_on_after_a_refusal(
    host: FakeHost, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert helper.main(["restore"], host) == 0 and not capsys.readouterr().out
    host.nic(SECOND, group="8", interface="eth2")
    host.cdev = False
    helper.bind(host, [NIC, SECOND])
    host.put(f"/sys/bus/pci/devices/{NIC}/device", "0x1533\n")
    host.put("/etc/uswitch/uplinks.d/0000:77:00.0.conf", "vendor = 0x8086\n")
    host.put("/etc/uswitch/uplinks.d/strange.conf", "")
    assert helper.main(["restore"], host) == 1
    said, errors = capsys.readouterr()
    assert said.splitlines() == [f"{SECOND}: was bound already", "0000:77:00.0: does not exist"]
    assert errors.splitlines() == [
        f"uswitch-uplink: adapter {NIC}: is another one than was given to the switch (8086:1533"
        f" now). See {CONFIG}; then unbind it, and bind what you mean.",
        "uswitch-uplink: /etc/uswitch/uplinks.d/strange.conf: is no adapter's file. Remove it.",
    ]


def test_a_link_planted_in_etc_is_not_followed(host: FakeHost, tmp_path: Path) -> None:
    victim = tmp_path / "shadow"
    victim.write_text("secret", encoding="ascii")
    for name in (RULE, f"/etc/uswitch/uplinks.d/.{NIC}.conf.new"):
        host.symlink(name, str(victim))
    helper.bind(host, [NIC])
    assert victim.read_text("ascii") == "secret" and not host.path(RULE).is_symlink()
    host.symlink(CONFIG, str(victim))
    with pytest.raises(Refused, match="is another one than was given"):
        helper.bind(host, [NIC])


def test_one_at_a_time(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_module, "LOCK_TRIES", 1)
    with RootHost(str(host.root)).lock():
        with pytest.raises(Refused, match="another one is at work"), host.lock():
            pass
    with host.lock():
        pass

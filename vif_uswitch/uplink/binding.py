# SPDX-License-Identifier: Apache-2.0
"""Takes an adapter from the kernel for the switch, gives it back, and takes it again at boot.

What is done to an adapter, in this order: a file in ``CONFIG`` remembers it, a
udev rule in ``RULES`` gives its device files to the group, ``driver_override``
names vfio-pci, the kernel's driver lets go, vfio-pci is probed.  A step that
fails undoes all before it.  A second ``bind`` finds all done and changes
nothing; ``restore`` is the same for all that is remembered.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Literal

from vif_uswitch.exceptions import Busy, Conflict, InvalidInput, NotFound, USwitchError
from vif_uswitch.uplink.checks import CONFIG, VFIO, configured, read_network, refusals
from vif_uswitch.uplink.host import Device, normal_address
from vif_uswitch.uplink.root import GROUP, RootHost

RULES = "/etc/udev/rules.d"
MODE = 0o660
SERVICE = "uswitch-uplink.service"

_CONFIG = """\
# Written by "uswitch-uplink bind {0.address}"; "uswitch-uplink unbind {0.address}" removes it.
vendor = {0.vendor:#06x}
device = {0.device:#06x}
"""
# %k is the number of the group, as in /dev/vfio/7.  The service finishes what a rule cannot do:
# a kernel driver that is loaded already may have the adapter before this rule is read.
_RULE = """\
# Written by "uswitch-uplink bind {0.address}"; "uswitch-uplink unbind {0.address}" removes it.
ACTION=="add", SUBSYSTEM=="pci", KERNEL=="{0.address}", ATTR{{vendor}}=="{0.vendor:#06x}", \
ATTR{{device}}=="{0.device:#06x}", ATTR{{driver_override}}="vfio-pci", TAG+="systemd", \
ENV{{SYSTEMD_WANTS}}+="{1}"
SUBSYSTEM=="vfio", TEST=="/sys/kernel/iommu_groups/%k/devices/{0.address}", \
GROUP="{2}", MODE="{3:04o}"
SUBSYSTEM=="vfio-dev", KERNELS=="{0.address}", GROUP="{2}", MODE="{3:04o}"
"""


class Undo:
    """Steps back, run last to first if the block fails; the error then tells how that went."""

    def __init__(self) -> None:
        self._steps: list[tuple[str, Callable[[], object]]] = []

    def add(self, text: str, step: Callable[[], object]) -> None:
        self._steps.append((text, step))

    def __enter__(self) -> Undo:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 where: TracebackType | None) -> Literal[False]:  # fmt: skip
        if error is None:
            return False
        failed = []
        for text, step in reversed(self._steps):
            try:
                step()
            except (OSError, USwitchError) as second:
                failed.append(f"{text} ({second})")
        state = f"NOT undone: {'; '.join(failed)}." if failed else "Everything is as before."
        if isinstance(error, USwitchError):
            if not self._steps:
                return False
            todo = f"{error.todo} {state}" if error.todo else state
            raise type(error)(error.what, error.value, error.why, todo) from error
        if isinstance(error, OSError):
            what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
            raise USwitchError("a step failed", None, what, state) from error
        return False


def bind(host: RootHost, addresses: Sequence[str]) -> list[str]:
    """Takes adapters; all or none.  Returns what was done, a line each."""
    wanted = sorted({normal_address(address) for address in addresses})
    with host.lock(CONFIG), Undo() as undo:
        gid = host.gid()
        _check(host, wanted)
        said = _load_modules(host, undo)
        devices = _check(host, wanted)  # again: the modules brought their parameters along
        for device in devices:
            said += _take(host, device, gid, undo)
    return [*said, f"undo: uswitch-uplink unbind {' '.join(wanted)}"]


def _check(host: RootHost, wanted: Sequence[str]) -> list[Device]:
    devices = [host.device(address) for address in wanted]
    network = read_network(host)
    for device in devices:
        if not device.is_network:
            raise InvalidInput(
                "PCI device", device.address, f"is no network adapter (class"
                f" {device.pci_class:06x})", "'uswitch-uplink list' shows those of this host.",
            )  # fmt: skip
        for refusal in refusals(host, device, network, wanted):
            raise Conflict("adapter", device.address, refusal.why, refusal.todo)
    return devices


def _load_modules(host: RootHost, undo: Undo) -> list[str]:
    said = []
    if not host.path("/sys/bus/pci/drivers/vfio-pci").is_dir():
        host.run(("modprobe", VFIO))
        undo.add("unload vfio-pci", lambda: host.run(("modprobe", "-r", VFIO)))
        said.append("loaded module vfio-pci")
    # One of the two is how memory is mapped; which one the kernel has is its own affair.
    for module in ("vfio_iommu_type1", "iommufd"):
        _try(host, "modprobe", "-q", module)
    return said


def _try(host: RootHost, *command: str) -> None:
    """A program that helps where it can: no udevd in a container, a module that is not built."""
    with suppress(USwitchError):
        host.run(command)


def _take(host: RootHost, device: Device, gid: int, undo: Undo) -> list[str]:
    address = device.address
    said = []
    undo.add("reload udev", lambda: _try(host, "udevadm", "control", "--reload"))
    rule = _RULE.format(device, SERVICE, GROUP, MODE)
    for path, text in ((_config(address), _CONFIG.format(device)), (_rule(address), rule)):
        if _put(host, path, text, undo):
            said.append(f"{address}: wrote {path}")
    if said:
        _try(host, "udevadm", "control", "--reload")
    if device.driver != VFIO:
        undo.add(f"give {address} back to {device.driver or 'nobody'}",
                 lambda: _release(host, device, device.driver))  # fmt: skip
        host.write(_sysfs(address, "driver_override"), VFIO)
        if device.driver:
            host.write(_sysfs(address, "driver/unbind"), address)
        host.write("/sys/bus/pci/drivers_probe", address)
        if (now := host.device(address).driver) != VFIO:
            raise USwitchError("adapter", address, f"vfio-pci did not take it (it has"
                               f" {now or 'no driver'})", "The kernel log says why.")  # fmt: skip
        names = f" ({', '.join(device.interfaces)})" if device.interfaces else ""
        said.append(f"{address}: {device.driver or 'no driver'}{names} -> vfio-pci")
    return said + _open_nodes(host, device, gid) or [f"{address}: was bound already"]


def _put(host: RootHost, path: str, text: str, undo: Undo) -> bool:
    file = host.path(path)
    before = file.read_text("utf-8") if file.is_file() and not file.is_symlink() else None
    if before == text:
        return False
    host.store(path, text)
    undo.add(f"restore {path}",
             file.unlink if before is None else lambda: host.store(path, before))  # fmt: skip
    return True


def _open_nodes(host: RootHost, device: Device, gid: int) -> list[str]:
    """Device files for the group.  udev does the same by the rule, where it runs."""
    said = []
    own = _nodes(host, device)
    if not any(host.path(node).exists() for node in own):
        raise USwitchError("adapter", device.address, f"there is no {' or '.join(own)}",
                           "Is /dev a devtmpfs? The kernel log may say why.")  # fmt: skip
    for node in (*own, "/dev/iommu"):
        path = host.path(node)
        if not path.exists():
            continue
        found = path.stat()
        # /dev/iommu opens no device; another group may have been given it on purpose.
        if (found.st_gid, found.st_mode & 0o777) != (gid, MODE) and (
                node in own or found.st_gid in (0, gid)):  # fmt: skip
            os.chown(path, -1, gid)
            os.chmod(path, MODE)
            said.append(f"{node}: group {GROUP}, mode {MODE:04o}")
    return said


def _nodes(host: RootHost, device: Device) -> list[str]:
    """Of the group, and of the device where the kernel has those (Linux 6.6 and later)."""
    cdevs = host.names(_sysfs(device.address, "vfio-dev"))
    return [f"/dev/vfio/{device.group}", *(f"/dev/vfio/devices/{name}" for name in cdevs)]


def _release(host: RootHost, device: Device, driver: str) -> None:
    """The adapter as it was before: no override; back with its driver, if it had one."""
    address = device.address
    if host.text(_sysfs(address, "driver_override")) == VFIO:
        host.write(_sysfs(address, "driver_override"), "\n")
    if host.device(address).driver == VFIO:
        host.write("/sys/bus/pci/drivers/vfio-pci/unbind", address)
    if driver and not host.device(address).driver:
        host.write("/sys/bus/pci/drivers_probe", address)


def unbind(host: RootHost, addresses: Sequence[str]) -> list[str]:
    """Gives adapters back to the kernel and forgets them.  One after the other."""
    said = []
    for address in sorted({normal_address(address) for address in addresses}):
        with host.lock(CONFIG):
            said += _unbind(host, address)
    return said


def _unbind(host: RootHost, address: str) -> list[str]:
    said = []
    ours = address in configured(host)
    try:
        device = host.device(address)
    except NotFound:
        if not ours:
            raise
        said.append(f"{address}: is not in this host any more")
    else:
        if device.driver == VFIO:
            said.append(_give_back(host, device, ours))
        elif ours:  # the rule's override, if vfio-pci did not get it at boot
            _release(host, device, "any")
    for path in (_rule(address), _config(address)):
        if host.path(path).exists():
            host.path(path).unlink()
            said.append(f"{address}: removed {path}")
    _try(host, "udevadm", "control", "--reload")
    return said or [f"{address}: the switch does not have it; nothing to do"]


def _give_back(host: RootHost, device: Device, ours: bool) -> str:
    address = device.address
    if not ours:
        raise Conflict("adapter", address, "is on vfio-pci, but not by uswitch-uplink",
                       "Take it back with the tool that gave it away.")  # fmt: skip
    nodes = _nodes(host, device)
    holders = host.holders(nodes)
    if holders or host.is_open(nodes[0]):
        raise Busy("adapter", address, f"{', '.join(holders) or 'a process'} has it open, and the"
                   " kernel would wait for that without end",
                   "Delete the uplink (uswitchctl uplink delete), or stop it.")  # fmt: skip
    with Undo() as undo:
        undo.add(f"override the driver of {address}",
                 lambda: host.write(_sysfs(address, "driver_override"), VFIO))  # fmt: skip
        _try(host, "modprobe", "-q", "--", host.text(_sysfs(address, "modalias")))
        _release(host, device, "any")
    now = host.device(address)
    names = f" ({', '.join(now.interfaces)})" if now.interfaces else ""
    return f"{address}: vfio-pci -> {now.driver or 'no driver: the kernel has none for it'}{names}"


def restore(host: RootHost) -> tuple[list[str], list[USwitchError]]:
    """At boot, and when an adapter appears: takes all that are remembered, each for itself."""
    said: list[str] = []
    errors: list[USwitchError] = []
    for address in configured(host):
        try:
            try:
                device = host.device(normal_address(address))
            except NotFound as error:
                said.append(f"{address}: {error.why}")
                continue
            if _values(host.text(_config(address))) != _values(_CONFIG.format(device)):
                raise Conflict(
                    "adapter", address, f"is another one than was given to the switch ({device.ids}"
                    " now)", f"See {_config(address)}; then unbind it, and bind what you mean.",
                )  # fmt: skip
            said += bind(host, [address])[:-1]
        except USwitchError as error:
            errors.append(error)
    return said, errors


def _values(config: str) -> list[str]:
    return [line for line in config.splitlines() if line and not line.startswith("#")]


def _config(address: str) -> str:
    return f"{CONFIG}/{address}.conf"


def _rule(address: str) -> str:
    return f"{RULES}/60-uswitch-uplink-{address}.rules"


def _sysfs(address: str, name: str) -> str:
    return f"/sys/bus/pci/devices/{address}/{name}"

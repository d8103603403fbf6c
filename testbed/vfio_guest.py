# SPDX-License-Identifier: Apache-2.0
"""A guest that is a host: an IOMMU, emulated adapters for VFIO, and this machine's files inside.

    bed = vfio_guest.prepare(Cache(), print)
    wire = Wire(directory / "n0")
    with Nested("host", bed.machine, directory) as host:
        host.boot([Adapter("igb", wire.path, "52:54:00:00:02:01")])
        host.wait_ready()
        host.must("lspci")                                   # a command, as root in there
        host.call("tests.vfio.steps", "start", options={})   # a Python function in there

Debian's kernel, unmodified, with ``intel_iommu=on``; its root is the real host's, read only, below
a layer in memory.  So the checkout, its virtual environment and every program are at their own
paths inside.  /dev/vfio exists in there and nowhere else: a test bed without a physical adapter has
no other way to show that a driver in a process works.
"""

from __future__ import annotations

import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from testbed import TestbedError, initramfs, parts, unprivileged
from testbed.accel import READY_MARK
from testbed.cache import CHECKOUT, Cache
from testbed.guest import Guest
from testbed.inside import Caller
from testbed.qemu import SLOTS, Device, Machine, Network

MODULES = ("tun", "veth", "8021q", "virtio_net", "igb", "vfio-pci", "vfio_iommu_type1")
MODELS = {
    "igb": ("igb",),
    # What a cloud gives to a guest that has an IOMMU: no way around it, virtio 1.0 only.
    "virtio": ("virtio-net-pci", "disable-legacy=on", "iommu_platform=on"),
}
PORTS = SLOTS + 1
READY_SECONDS = 240.0  # of one boot, where eight others want the processors as well
STUCK_SECONDS = 60.0  # without a word, or after the kernel found that it makes no progress
BOOTS = 2
COMPLAINTS = "DMAR:.*(fault|Request)|BUG: (unable|kernel)|Oops|WARNING: CPU"
_STALL = re.compile(rb"rcu: INFO: \w+ (self-)?detected stall")
CALL_SECONDS = 120.0
UID = 990
USER = "uswitch"  # of the daemons inside; there it exists, whoever runs them here

Model = Literal["igb", "virtio"]


@dataclass(frozen=True, slots=True)
class Adapter:
    """An emulated adapter whose cable is a Unix datagram socket (testbed/wire.py)."""

    model: Model
    wire: Path
    mac: str
    options: tuple[str, ...] = ()  # properties of the device, "packed=on"

    def arguments(self, slot: int) -> list[str]:
        """The adapter behind its own root port: a group of its own, and one may be unplugged."""
        near, far = f"{self.wire}.nic", f"{self.wire}.wire"
        words = (*MODELS[self.model], f"id=nic{slot}", f"netdev=net{slot}", f"mac={self.mac}",
                 f"bus=port{slot}", *self.options)
        return ["-netdev", f"dgram,id=net{slot},local.type=unix,local.path={near},"
                           f"remote.type=unix,remote.path={far}",
                "-device", ",".join(words)]


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Functions of one device, and so one IOMMU group: who opens one could reach the others.

    The first is of a kind that the switch knows, but goes past the IOMMU; the second is one that
    it does not know, nor does the kernel; the third is the kernel's.  None has a cable.
    """

    def arguments(self, slot: int) -> list[str]:
        """All behind one root port."""
        models = ("virtio-net-pci,disable-legacy=on,multifunction=on", "e1000e",
                  "virtio-net-pci,disable-legacy=on")
        return [word for number, model in enumerate(models) for word in
                ("-device", f"{model},id=nic{slot}f{number},bus=port{slot},addr=0.{number}")]


@dataclass(frozen=True, slots=True)
class NestedMachine(Machine):
    """A machine with an IOMMU and the real host's files."""

    modules: Path = field(kw_only=True)

    def hardware(self) -> list[str]:
        """The IOMMU comes first: QEMU wants it before the devices it serves."""
        # The kernel half of KVM's interrupt controller cannot remap interrupts.
        board = "q35,kernel-irqchip=split" if self.accel.name == "kvm" else "q35"
        ports = [word for slot in range(PORTS) for word in
                 ("-device", f"pcie-root-port,id=port{slot},chassis={slot + 1},addr={slot + 4:#x}")]
        return [*self.accel.arguments, "-M", board, "-m", self.memory, "-smp", str(self.cpus),
                "-nodefaults", "-no-user-config", "-display", "none",
                "-device", "intel-iommu,intremap=on", *ports,
                "-fsdev", "local,id=host,path=/,security_model=none,readonly=on,multidevs=remap",
                "-device", "virtio-9p-pci,fsdev=host,mount_tag=host"]

    def kernel_line(self, name: str, network: Network | None) -> str:
        """As any guest's, with the IOMMU on, and a kernel that tells how far its boot is."""
        # "Machine." because slots make this another class than the one that super() looks for.
        line = Machine.kernel_line(self, name, network).replace(" quiet ", " loglevel=7 ")
        # "relaxed": a test writes to an adapter's registers behind the back of its driver.
        # An emulated processor may lose a timer interrupt, which must not be the one that asks for
        # the next: ticks come by themselves.
        line += " nohz=off highres=off nowatchdog"
        return (f"{line} intel_iommu=on iomem=relaxed net.ifnames=0 "
                f"guest.modules={self.modules} guest.load={','.join(MODULES)}")


@dataclass(frozen=True, slots=True)
class NestedParts:
    """A machine to make nested hosts of."""

    machine: NestedMachine


def prepare(cache: Cache, progress: Callable[[str], None]) -> NestedParts:
    """Kernel, initramfs and accelerator, from the cache where they are there."""
    bed = parts.prepare(cache, progress)
    image = initramfs.build(cache, bed.kernel, initramfs.NESTED)
    who = unprivileged.guest_identity()  # whose eyes QEMU sees this machine's files with
    unprivileged.require_readable(CHECKOUT / "setup.py", who)
    unprivileged.require_readable(Path(sys.executable), who, "-x")
    return NestedParts(NestedMachine(bed.kernel.vmlinux, image, bed.machine.accel, memory="2G",
                                     cpus=2, modules=bed.kernel.modules))


class Nested(Guest):
    """A running nested host."""

    machine: NestedMachine

    def boot(self, nics: Sequence[Device] = ()) -> None:
        """Start QEMU with these adapters."""
        for nic in nics:
            if isinstance(nic, Adapter):  # left by one that was killed
                Path(f"{nic.wire}.nic").unlink(missing_ok=True)
        super().boot(nics)
        self._caller: Caller | None = None

    def wait_ready(self, timeout: float = READY_SECONDS) -> None:
        """Wait for the command loop, and make what an installation makes: user and group.

        An emulated kernel whose timer is lost while others have the processors hangs for good: a
        boot that makes no progress is given up, its log kept as ``NAME.bootN.log``, for another.
        """
        for number in range(1, BOOTS + 1):
            why = self._watch_boot(timeout)
            if why is None:
                break
            kept = self._path(f"boot{number}.log")
            self._path("log").rename(kept)
            if number == BOOTS:
                raise TestbedError(f"{self.name} is not up: {why}; it said:\n"
                                   f"{kept.read_text(errors='replace')[-1500:]}")
            warnings.warn(f"boot {number} of {self.name}: {why}; another one", stacklevel=2)
            self.kill()
            self.boot(list(self.nics.values()))
        super().wait_ready(timeout)
        if "NESTED-FAIL" in self.log:
            raise TestbedError(f"the nested host is not complete:\n{self.log[-1500:]}")
        # By hand: useradd wants /etc/shadow, which QEMU's user may not read.
        self.must(f"id -u {USER} || {{ echo {USER}:x:{UID}: >> /etc/group && "
                  f"echo {USER}:x:{UID}:{UID}::/nonexistent:/usr/sbin/nologin >> /etc/passwd; }}")
        # Whoever watches for devices that come and go hears of them from udev.
        self.must("timeout 30 /lib/systemd/systemd-udevd --daemon")
        self._caller = self._start_caller()

    def _watch_boot(self, timeout: float) -> str | None:
        """None once it is up; or why there is no point in waiting any longer."""
        started = since = time.monotonic()
        path, size, stalled = self._path("log"), 0, False
        while True:
            said = path.read_bytes() if path.exists() else b""
            if READY_MARK in said:
                return None
            self.check()
            now = time.monotonic()
            if not stalled:  # reports of a stall are no progress
                stalled = _STALL.search(said) is not None
                if stalled or len(said) != size:
                    size, since = len(said), now
            if now - since > STUCK_SECONDS:
                return ("its kernel reports that it is stuck" if stalled else
                        f"no word for {STUCK_SECONDS:.0f} s")
            if now - started > timeout:
                return f"not ready after {timeout:.0f} s"
            time.sleep(0.05)

    def call(self, module: str, function: str, /, timeout: float = CALL_SECONDS, **arguments: Any
             ) -> Any:
        """Call a Python function in there, as root; JSON goes in and comes out."""
        if self._caller is None:
            raise TestbedError(f"{self.name} is not up")
        return self._caller.call(module, function, arguments, timeout)

    def _start_caller(self) -> Caller:
        caller = Caller(self._path("tty"), self.check)
        search = os.pathsep.join([str(CHECKOUT), *filter(None, [os.environ.get("PYTHONPATH")])])
        self.spawn(f"cd {CHECKOUT} && PYTHONPATH={search} exec {self.python} -m testbed.inside "
                   "/dev/ttyS2", "inside")
        return caller

    @property
    def python(self) -> str:
        """The interpreter of this environment: the same one inside."""
        return sys.executable

    # -- devices -------------------------------------------------------------------------------

    def addresses(self, slot: int) -> list[str]:
        """PCI addresses of the functions of the device in a slot."""
        found = self.must(f"ls -d /sys/bus/pci/devices/0000:00:{slot + 4:02x}.0/0000:??:??.?")
        return [Path(line).name for line in found.split()]

    def driver(self, address: str) -> str:
        """The kernel's driver that has a device, "" if none has."""
        return Path(self.must(f"readlink /sys/bus/pci/devices/{address}/driver || :").strip()).name

    def group(self, address: str) -> str:
        """Number of the device's IOMMU group."""
        return Path(self.must(f"readlink /sys/bus/pci/devices/{address}/iommu_group").strip()).name

    def bind(self, address: str, driver: str = "vfio-pci") -> None:
        """Give a device to a driver, by the kernel's own files: no program of ours is needed.

        With vfio-pci, the group's device belongs to the daemons' user afterwards.
        """
        device = f"/sys/bus/pci/devices/{address}"
        self.must(f"echo {driver} > {device}/driver_override; "
                  f"[ -e {device}/driver ] && echo {address} > {device}/driver/unbind; "
                  f"echo {address} > /sys/bus/pci/drivers_probe; "
                  f"[ $(basename $(readlink {device}/driver)) = {driver} ]")
        if driver == "vfio-pci":
            self.must(f"chown {USER}: /dev/vfio/{self.group(address)}")

    def give_back(self, address: str) -> None:
        """Let the kernel choose a driver again, as at boot; one that was unplugged may be gone."""
        device = f"/sys/bus/pci/devices/{address}"
        self.must(f"[ ! -e {device} ] || {{ echo > {device}/driver_override; "
                  f"[ ! -e {device}/driver ] || echo {address} > {device}/driver/unbind; "
                  f"echo {address} > /sys/bus/pci/drivers_probe; }}")

    def forget_faults(self) -> list[str]:
        """What the IOMMU has stopped since the last call, and where the kernel itself was hurt."""
        found = self.must(f"dmesg --read-clear | grep -E '{COMPLAINTS}' || :")
        return [line for line in found.splitlines() if line.strip()]

    def interrupt_state(self) -> str:
        """Local APIC of each processor, as QEMU has it: why a processor sleeps for good."""
        return "\n".join(self.qmp.monitor(f"info lapic {cpu}")
                         for cpu in range(self.machine.cpus))

    def kernel_log(self) -> str:
        """All of it, forgotten or not."""
        return self.must("dd if=/dev/kmsg iflag=nonblock bs=8192 2>/dev/null; :")

    def set_link(self, slot: int, up: bool) -> None:
        """Pull the cable, or put it back."""
        self.qmp.command("set_link", name=f"net{slot}", up=up)

    def remove(self, slot: int) -> None:
        """Ask for an adapter to be unplugged; returns at once, the kernel has to agree."""
        self.qmp.command("device_del", id=f"nic{slot}")

    def capture(self, slot: int, path: Path) -> Capture:
        """Record what passes a cable, both ways, in pcap format."""
        return Capture(self, slot, path)

    def kill(self) -> None:
        """SIGKILL QEMU."""
        if getattr(self, "_caller", None) is not None:
            assert self._caller is not None
            self._caller.close()
            self._caller = None
        super().kill()


class Capture:
    """QEMU's own recorder at a cable, for as long as the context lasts."""

    def __init__(self, host: Nested, slot: int, path: Path) -> None:
        self.path = path
        self._host, self._slot = host, slot

    def __enter__(self) -> Capture:
        self._host.qmp.command("object-add", qom_type="filter-dump", id=f"dump{self._slot}",
                               netdev=f"net{self._slot}", file=str(self.path), maxlen=65536)
        return self

    def __exit__(self, *_: object) -> None:
        self._host.qmp.command("object-del", id=f"dump{self._slot}")

# SPDX-License-Identifier: Apache-2.0
"""One guest: a QEMU process, its serial ports and its QMP.

    guest = Guest("g0", machine, run_dir, network=Network(ip="10.9.0.1/24"))
    guest.boot([nic])                    # NICs present from the start, or
    guest.restore(snapshot); guest.plug(nic)    # under a second, NIC hot-plugged as Nova would
    guest.run("ping -c 3 10.9.0.2")

A QEMU whose NIC has no backend blocks before its main loop runs: no QMP, no SIGTERM.  So boot()
only starts it, wait_ready() waits for the guest, and kill() is the one way out that always works.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal

from testbed import TestbedError, unprivileged
from testbed.accel import READY_MARK
from testbed.console import CommandPort, Result
from testbed.process import Child
from testbed.qemu import Device, Machine, Network, Nic, command_line
from testbed.qmp import Qmp, QmpError

BOOT_SECONDS = 120.0
RUN_SECONDS = 60.0
PLUG_SECONDS = 60.0
MIGRATE_SECONDS = 120.0


def parse_size(text: str) -> int:
    """ "192M" in bytes."""
    return int(text[:-1]) << {"K": 10, "M": 20, "G": 30}[text[-1]]


class Guest:
    """A virtual machine of the test bed."""

    def __init__(self, name: str, machine: Machine, directory: Path, *,
                 network: Network | None = None, outlive: bool = False) -> None:
        self.name = name
        self.machine = machine
        self.directory = directory
        self.network = network
        self.nics: dict[int, Device] = {}
        self._outlive = outlive
        self._child: Child | None = None
        self._seen = 0  # bytes of the log that belong to earlier boots
        self.qmp = Qmp(self._path("qmp"))
        self.commands = CommandPort(self._path("cmd"), self.check)

    def __enter__(self) -> Guest:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.kill()

    def _path(self, kind: str) -> Path:
        return self.directory / f"{self.name}.{kind}"

    @property
    def pid(self) -> int:
        """Of QEMU."""
        if self._child is None:
            raise TestbedError(f"guest {self.name} was never started")
        return self._child.pid

    @property
    def log(self) -> str:
        """What the kernel and init printed."""
        path = self._path("log")
        return path.read_text(errors="replace") if path.exists() else ""

    # -- start ---------------------------------------------------------------------------------

    def boot(self, nics: Sequence[Device] = ()) -> None:
        """Start QEMU with these NICs; returns at once, see wait_ready()."""
        self._start(nics, None)

    def restore(self, snapshot: Path) -> None:
        """Start from a saved state (testbed/snapshot.py), without NICs, and wait until it runs."""
        self._start((), f"file:{snapshot}")
        self.resume()
        self.run(f"hostname {self.name}")

    def resume(self) -> None:
        """Go on where the saved or migrated state ends, once that is complete."""
        self.wait_migrated()
        self.qmp.command("cont")

    def _wait_status(self, *wanted: str) -> None:
        deadline = time.monotonic() + BOOT_SECONDS
        status = "none"
        while status not in wanted:
            if time.monotonic() > deadline:
                raise TestbedError(f"guest {self.name} is {status}, not {wanted[0]}")
            time.sleep(0.02)
            self.check()
            try:
                status = self.qmp.command("query-status")["status"]
            except TestbedError:
                status = "none"

    def receive(self, nics: Sequence[Device], uri: str) -> None:
        """Start as the destination of a migration; it stays paused when that is complete."""
        self._start(nics, uri)
        self._wait_status("inmigrate")

    def migrate(self, uri: str, timeout: float = MIGRATE_SECONDS) -> dict[str, object]:
        """Move to a guest that receives there; returns what QEMU says of it.  Paused afterwards."""
        self.qmp.command("migrate", uri=uri)
        deadline = time.monotonic() + timeout
        while (info := self.qmp.command("query-migrate")).get("status") != "completed":
            if info.get("status") in ("failed", "cancelled") or time.monotonic() > deadline:
                raise TestbedError(f"guest {self.name} did not migrate: {info}")
            time.sleep(0.05)
        return dict(info)

    def wait_migrated(self) -> None:
        """All of the state has arrived; paused, for resume()."""
        self._wait_status("paused", "prelaunch")

    def _start(self, nics: Sequence[Device], incoming: str | None) -> None:
        if self._child is not None and self._child.alive():
            raise TestbedError(f"guest {self.name} runs already")
        for kind in ("qmp", "cmd", "tty", "log"):
            self._path(kind).unlink(missing_ok=True)
        self._seen = 0
        self.nics = dict(enumerate(nics))
        who = unprivileged.guest_identity()
        command = command_line(self.machine, self.name, self.directory, self.network, list(nics),
                               incoming)
        unprivileged.require_readable(self.machine.vmlinux, who)
        self._child = Child(f"QEMU of {self.name}", command, self._path("out"), who=who,
                            outlive=self._outlive)

    def wait_ready(self, timeout: float = BOOT_SECONDS) -> None:
        """Wait until init has finished: NIC of the command line configured, commands served."""
        deadline = time.monotonic() + timeout
        path = self._path("log")
        while not (path.exists() and READY_MARK in path.read_bytes()[self._seen:]):
            self.check()
            if time.monotonic() > deadline:
                raise TestbedError(f"guest {self.name} is not up after {timeout:.0f} s; it said:\n"
                                   f"{self.log[-1500:]}")
            time.sleep(0.05)
        self.run("true")

    def check(self) -> None:
        """Raise if QEMU has ended."""
        if self._child is None:
            raise TestbedError(f"guest {self.name} was never started")
        self._child.check()

    # -- use -----------------------------------------------------------------------------------

    def run(self, command: str, timeout: float = RUN_SECONDS) -> Result:
        """Run a command line in the guest."""
        return self.commands.run(command, timeout)

    def must(self, command: str, timeout: float = RUN_SECONDS) -> str:
        """Run a command that has to succeed, and return what it printed."""
        result = self.run(command, timeout)
        if result.rc:
            raise TestbedError(f"{self.name}: '{command}' ended with status {result.rc}:\n"
                               f"{result.output.strip()}")
        return result.output

    def spawn(self, command: str, job: str) -> None:
        """Start a command in the background; collect() gives its output."""
        self.must(f"rm -f /tmp/{job}.rc; ( ( {command} ) >/tmp/{job}.out 2>&1; "
                  f"echo $? >/tmp/{job}.tmp; mv /tmp/{job}.tmp /tmp/{job}.rc ) &")

    def collect(self, job: str, timeout: float = RUN_SECONDS) -> Result:
        """Wait for a background command."""
        deadline = time.monotonic() + timeout
        while self.run(f"test -e /tmp/{job}.rc").rc:
            if time.monotonic() > deadline:
                raise TestbedError(f"{self.name}: background job {job} did not finish:\n"
                                   + self.run(f"tail -n 5 /tmp/{job}.out").output)
            time.sleep(0.1)
        output = self.run(f"cat /tmp/{job}.out").output
        return Result(output, int(self.must(f"cat /tmp/{job}.rc")))

    def configure(self, network: Network, ifname: str = "eth0") -> None:
        """Give an interface these settings."""
        self.must(" ".join(["guest-net", ifname, *network.words()]))

    def interfaces(self) -> set[str]:
        """Ethernet interfaces present, VLAN interfaces left out."""
        names = self.must("ls /sys/class/net").split()
        return {name for name in names if name.startswith("eth") and "." not in name}

    def features(self, ifname: str = "eth0") -> frozenset[int]:
        """Feature bits the guest's driver negotiated."""
        bits = self.must(f"cat /sys/class/net/{ifname}/device/features").strip()
        return frozenset(number for number, bit in enumerate(bits) if bit == "1")

    # -- change --------------------------------------------------------------------------------

    def plug(self, nic: Nic, network: Network | None = None) -> str:
        """Hot-plug a NIC and return the guest's name for it."""
        slot = next(number for number in range(len(self.nics) + 1) if number not in self.nics)
        before = self.interfaces()
        self.qmp.command("chardev-add", id=f"char{slot}", backend=nic.chardev())
        try:
            self.qmp.command("netdev_add", type="vhost-user", id=f"net{slot}",
                             chardev=f"char{slot}", queues=nic.queues)
            # The human monitor takes properties as text, like a command line does.
            said = self.qmp.monitor(f"device_add {nic.device(slot)}")
            if said:
                raise QmpError(f"QEMU refused the NIC: {said}")
        except TestbedError:
            self._forget(slot)
            raise
        self.nics[slot] = nic
        deadline = time.monotonic() + PLUG_SECONDS
        while not (new := self.interfaces() - before):
            if time.monotonic() > deadline:
                raise TestbedError(f"guest {self.name} sees no new NIC after {PLUG_SECONDS:.0f} s")
            time.sleep(0.05)
        ifname = new.pop()
        if network is not None:
            self.configure(network, ifname)
        return ifname

    def unplug(self, slot: int = 0) -> None:
        """Hot-unplug a NIC, with the guest's consent."""
        self.qmp.command("device_del", id=f"nic{slot}")
        self.qmp.wait_event("DEVICE_DELETED", PLUG_SECONDS)
        self.qmp.command("netdev_del", id=f"net{slot}")  # takes its chardev with it
        del self.nics[slot]

    def add_memory(self, size: str, use: Literal["kernel", "movable"] = "kernel") -> None:
        """Hot-plug a memory module, a second memfd for the backend, and let the kernel use it.

        Only what is "movable" can be unplugged again; "kernel" is where network buffers come from.
        """
        self.qmp.command("object-add", qom_type="memory-backend-memfd", id="more",
                         size=parse_size(size), share=True)
        self.qmp.command("device_add", driver="pc-dimm", id="dimm", memdev="more")
        self.must("for i in $(seq 100); do for s in /sys/devices/system/memory/memory*/state; do "
                  f"grep -q offline $s && echo online_{use} > $s && found=1; done; "
                  "[ \"$found\" ] && exit 0; sleep 0.1; done; exit 1")

    def remove_memory(self) -> None:
        """Hot-unplug what add_memory() plugged, with the guest's consent."""
        self.qmp.command("device_del", id="dimm")
        self.qmp.wait_event("DEVICE_DELETED", PLUG_SECONDS)
        self.qmp.command("object-del", id="more")

    def _forget(self, slot: int) -> None:
        for command, name in (("netdev_del", f"net{slot}"), ("chardev-remove", f"char{slot}")):
            try:
                self.qmp.command(command, id=name)
            except TestbedError:
                continue

    def unload_driver(self) -> None:
        """Take the virtio-net driver out of the guest's kernel: the device is reset."""
        self.must("rmmod virtio_net")

    def load_driver(self, network: Network | None = None) -> None:
        """Load the driver again and configure the first interface."""
        self.must("modprobe virtio_net")
        deadline = time.monotonic() + PLUG_SECONDS
        while not self.interfaces():
            if time.monotonic() > deadline:
                raise TestbedError(f"guest {self.name} has no NIC after loading its driver")
            time.sleep(0.05)
        if network is not None:
            self.configure(network)

    def reboot(self, timeout: float = BOOT_SECONDS) -> None:
        """Reboot the guest's kernel under the same QEMU."""
        self._seen = len(self._path("log").read_bytes())
        self.run("( sleep 0.3; reboot -f ) &")
        self.wait_ready(timeout)

    def reset(self, timeout: float = BOOT_SECONDS) -> None:
        """Press the reset button."""
        self._seen = len(self._path("log").read_bytes())
        self.qmp.command("system_reset")
        self.wait_ready(timeout)

    # -- end -----------------------------------------------------------------------------------

    def kill(self) -> None:
        """SIGKILL, as the out-of-memory killer would."""
        self.commands.close()
        self.qmp.close()
        if self._child is not None:
            self._child.kill()

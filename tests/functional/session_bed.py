# SPDX-License-Identifier: Apache-2.0
"""A user's own switch and qemu:///session, for test_libvirt_session.py and test_doc_shell.py."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from testbed import TestbedError
from testbed.process import Child
from testbed.qemu import Machine, Network
from testbed.session import Session, SessionLibvirt

START_SECONDS = 30.0
PROGRAM = "/opt/uswitch/bin/uswitchd"
DOMAIN = """<domain type='{kind}'>
  <name>{name}</name>
  <memory unit='MiB'>192</memory>
  <memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
    <kernel>{kernel}</kernel><initrd>{initrd}</initrd><cmdline>{line}</cmdline>
  </os>
  <features><acpi/><apic/></features>
  <cpu mode='{cpu}'/>
  <on_poweroff>destroy</on_poweroff><on_reboot>restart</on_reboot>
  <devices>
    <interface type='vhostuser'>
      <mac address='{mac}'/>
      <source type='unix' path='{socket}' mode='{mode}'/>
      <model type='virtio'/>
    </interface>
    <memballoon model='none'/>
  </devices>
</domain>
"""


class UserSwitch:
    """``uswitchd --user`` in a session, and what ``uswitchctl`` says there without being told."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.log = session.directory / "uswitchd.log"
        self._child: Child | None = None

    def start(self, *options: str) -> None:
        self._child = self.session.child("uswitchd", [PROGRAM, "--user", *options], self.log)
        deadline = time.monotonic() + START_SECONDS
        while self.session.ask("uswitchctl", "show").returncode:
            self._child.check()
            if time.monotonic() > deadline:
                raise TestbedError(f"uswitchd --user is not ready: {self._child.tail()}")
            time.sleep(0.1)

    def show(self) -> dict[str, Any]:
        shown = json.loads(self.session.run("uswitchctl", "show", "-f", "json"))
        return dict(shown["host"])

    def port(self, name: str) -> dict[str, Any]:
        shown = json.loads(self.session.run("uswitchctl", "port", "show", name, "-f", "json"))
        return dict(shown)

    def end(self, signal: str) -> None:
        """Of uswitchd alone; the dataplane goes on."""
        assert self._child is not None
        self.session.run("kill", f"-{signal}", str(self.show()["daemon"]["pid"]))
        self._child.process.wait(START_SECONDS)


def domain(
    libvirt: SessionLibvirt, machine: Machine, name: str, *, mac: str, socket: str,
    mode: str, network: Network,
) -> str:
    """The domain's XML.  ``mode`` is QEMU's part: server listens."""
    kvm = machine.accel.name == "kvm"
    return libvirt.with_consoles(DOMAIN.format(
        kind="kvm" if kvm else "qemu", cpu="host-passthrough" if kvm else "maximum", name=name,
        kernel=machine.vmlinux, initrd=machine.initramfs, line=machine.kernel_line(name, network),
        mac=mac, socket=socket, mode=mode,
    ))  # fmt: skip


def sockets(session: Session) -> Path:
    return session.runtime / "uswitch/vhost"

# SPDX-License-Identifier: Apache-2.0
"""A host in a directory, and a uswitchd that answers what a test says.

Files belong to whoever runs the tests, so users of the fake host are made
around that: ``uswitch`` is another user who is in the files' group.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vif_uswitch.cmd.doctor.host import Host
from vif_uswitch.cmd.doctor.model import Check, Finding, Scene, run_all
from vif_uswitch.cmd.doctor.switch import Switch
from vif_uswitch.exceptions import USwitchError
from vif_uswitch.version import version

RUN_DIR = "/run/uswitch"
VHOST = f"{RUN_DIR}/vhost"
CONTROL = f"{RUN_DIR}/control.sock"
USWITCH, QEMU, NOVA, NEUTRON, STRANGER = 4999, 64055, 4998, 4997, 4242
DAEMON_PID, DATAPLANE_PID = 100, 101
VENV = "/opt/nova"


class FakeClient:
    """The part of ``Client`` that is used; ``error``: what every question ends in."""

    def __init__(self) -> None:
        self.path = CONTROL
        self.error: USwitchError | None = None
        self.asked = 0
        self.daemon: dict[str, Any] = {
            "pid": DAEMON_PID, "version": version(), "vhost_socket_dir": VHOST,
        }  # fmt: skip
        self.dataplane: dict[str, Any] = {"running": True, "pid": DATAPLANE_PID}
        self.ports: list[Any] = []
        self.uplinks: list[Any] = []
        self.memory: dict[str, int] = {}

    def _answer(self, answer: Any) -> Any:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return answer

    def show(self) -> dict[str, Any]:
        return dict(self._answer({"daemon": self.daemon, "dataplane": self.dataplane}))

    def port_list(self) -> list[dict[str, Any]]:
        return list(self._answer(self.ports))

    def port_show(self, name: str) -> dict[str, Any]:
        return dict(self._answer({"memory_bytes": self.memory.get(name, 0)}))

    def uplink_list(self) -> list[dict[str, Any]]:
        return list(self._answer(self.uplinks))


class FakeRoot:
    """An empty host; ``healthy()`` fills it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.client = FakeClient()
        self.gid = os.getegid()
        self.programs: dict[str, str] = {}
        self.capacity: dict[str, int] = {}  # mount point -> bytes of the file system
        self._sockets: list[socket.socket] = []

    # ---- building ----

    def at(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def put(self, path: str, text: str | bytes = "", mode: int = 0o644) -> Path:
        where = self.at(path)
        where.parent.mkdir(parents=True, exist_ok=True)
        where.write_bytes(text.encode() if isinstance(text, str) else text)
        where.chmod(mode)
        return where

    def mkdir(self, path: str, mode: int = 0o755) -> Path:
        where = self.at(path)
        where.mkdir(parents=True, exist_ok=True)
        where.chmod(mode)
        return where

    def link(self, path: str, target: str) -> None:
        where = self.at(path)
        where.parent.mkdir(parents=True, exist_ok=True)
        where.unlink(missing_ok=True)
        where.symlink_to(target)

    def socket(self, path: str, mode: int = 0o775) -> None:
        """A socket file, made from within its directory: AF_UNIX has 107 bytes."""
        where = self.at(path)
        where.parent.mkdir(parents=True, exist_ok=True)
        here = os.open(".", os.O_RDONLY)
        one = socket.socket(socket.AF_UNIX)
        try:
            os.chdir(where.parent)
            one.bind(where.name)
        finally:
            os.fchdir(here)
            os.close(here)
        where.chmod(mode)
        self._sockets.append(one)

    def process(self, pid: int, *arguments: str, uid: int = USWITCH, gids: Sequence[int] = (),
                caps: str = "0", more: str = "") -> None:
        groups = " ".join(str(gid) for gid in gids)
        self.put(f"/proc/{pid}/cmdline", "\0".join(arguments) + "\0")
        self.put(f"/proc/{pid}/status",
                 f"Name:\tx\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\n"
                 f"Gid:\t{gids[0] if gids else uid}\t{gids[0] if gids else uid}\t0\t0\n"
                 f"Groups:\t{groups}\nCapPrm:\t{caps}\nCapEff:\t{caps}\n"
                 f"NoNewPrivs:\t1\nSeccomp:\t2\n{more}")

    def distribution(self, name: str, number: str, points: str = "", venv: str = VENV) -> None:
        where = f"{venv}/lib/python3.11/site-packages/{name.replace('-', '_')}-{number}.dist-info"
        self.put(f"{where}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {number}\n")
        self.put(f"{where}/entry_points.txt", points)

    def accounts(self, members: str = "uswitch") -> None:
        """uswitch and QEMU's user in the group of the files, as on Debian with group kvm."""
        self.put("/etc/passwd",
                 f"root:x:0:0::/:/bin/sh\nuswitch:x:{USWITCH}:{USWITCH}::/:/bin/false\n"
                 f"libvirt-qemu:x:{QEMU}:{self.gid}::/:/bin/false\n"
                 f"nova:x:{NOVA}:{NOVA}::/:/bin/false\n")
        self.put("/etc/group", f"uswitch:x:{USWITCH}:\nkvm:x:{self.gid}:{members}\n")

    def program(self, path: str, answer: str = "", text: str = "") -> None:
        self.put(path, text, 0o755)
        self.programs[path] = answer

    def healthy(self) -> FakeRoot:
        """A compute node on which every check that can pass does."""
        self.accounts()
        self.mkdir(VHOST, 0o2775)
        self.socket(CONTROL, 0o660)
        self.socket(f"{VHOST}/vm1.sock")
        self.put("/proc/net/unix", "Num RefCount Protocol Flags Type St Inode Path\n"
                 f"0: 00000002 00000000 00010000 0001 01 123 {VHOST}/vm1.sock\n")
        self.process(DAEMON_PID, "/opt/uswitch/bin/python3", "/opt/uswitch/bin/uswitchd",
                     gids=(USWITCH, self.gid))  # fmt: skip
        self.process(DATAPLANE_PID, "/opt/uswitch/bin/uswitch-dataplane", "--listen-fd", "5")
        self.put(f"/proc/{DATAPLANE_PID}/limits", "Limit  Soft Limit  Hard Limit  Units\n"
                 "Max locked memory         67108864             67108864             bytes\n")
        self.process(200, f"{VENV}/bin/python3", f"{VENV}/bin/nova-compute", uid=NOVA,
                     gids=(NOVA, self.gid))  # fmt: skip
        self.process(201, f"{VENV}/bin/python3", f"{VENV}/bin/neutron-uswitch-agent", uid=NEUTRON,
                     gids=(NEUTRON, self.gid))  # fmt: skip
        self.process(300, "/usr/bin/qemu-system-x86_64", "-object",
                     '{"qom-type":"memory-backend-file","share":true}', "-netdev",
                     '{"type":"vhost-user","chardev":"c0"}', uid=QEMU)  # fmt: skip
        for name in ("nova-compute", "neutron-uswitch-agent"):
            self.program(f"{VENV}/bin/{name}", text=f"#!{VENV}/bin/python3\n")
        self.put(f"{VENV}/pyvenv.cfg", "include-system-site-packages = false\n")
        points = "".join(f"{name} = vif_uswitch.plugin:UswitchPlugin\n"
                         for name in ("uswitch", "contrail_vrouter", "vhostuser_fp"))
        self.distribution("vif-uswitch", version(), f"[os_vif]\n{points}")
        for name, number in (("os-vif", "5.3.0"), ("nova", "34.0.0"), ("neutron", "29.0.0")):
            self.distribution(name, number, "[os_vif]\nnoop = a:B\n" if name == "os-vif" else "")
        self.put("/etc/nova/nova.conf", "[DEFAULT]\nram_allocation_ratio = 1.0\n"
                 "reserved_host_memory_mb = 0\n[libvirt]\nfile_backed_memory = 4096\n")
        self.put("/etc/libvirt/qemu.conf", '# user = "root"\nmemory_backing_dir = "/dev/shm/g"\n')
        self.put("/proc/mounts", "/dev/vda / ext4 rw 0 0\n"
                 "tmpfs /dev/shm tmpfs rw,nosuid,size=8388608k 0 0\n")
        self.network()
        self.put("/proc/sys/kernel/seccomp/actions_avail", "kill_process kill_thread errno allow\n")
        self.put("/landlock-abi", "6\n")
        self.put("/proc/sys/kernel/osrelease", "6.12.9-amd64\n")
        self.mkdir("/run/systemd/system")
        self.put("/etc/systemd/system/uswitchd.service", "[Service]\nKillMode=process\n")
        self.link("/etc/systemd/system/multi-user.target.wants/uswitchd.service",
                  "/etc/systemd/system/uswitchd.service")
        self.program("/usr/bin/qemu-system-x86_64", "QEMU emulator version 10.0.2 (Debian)\n")
        self.program("/usr/sbin/libvirtd", "libvirtd (libvirt) 11.3.0\n")
        return self

    def network(self) -> None:
        """An adapter in a group of its own, and the uplink that uses it."""
        address, group = "0000:03:00.0", "7"
        device = f"/sys/bus/pci/devices/{address}"
        self.mkdir("/sys/class/iommu/dmar0")
        self.put(f"{device}/class", "0x020000\n")
        self.link(f"{device}/driver", "../../drivers/vfio-pci")
        self.link(f"{device}/iommu_group", f"../../../kernel/iommu_groups/{group}")
        self.mkdir(f"/sys/kernel/iommu_groups/{group}/devices/{address}")
        self.put(f"/etc/uswitch/uplinks.d/{address}.conf", "vendor = 0x8086\n")
        self.client.uplinks = [{
            "port": {"name": "wire", "pci": address, "physnet": "physnet1", "admin_up": True,
                     "link": "up", "reason": ""},
            "adapter": {"link_up": True, "pool_bytes": 6 << 20}, "zero_copy": False,
        }]  # fmt: skip

    # ---- asking ----

    def scene(self) -> Scene:
        host = Host(self.root, lambda command: self.programs.get(command[0], ""),
                    lambda path: self.capacity.get(f"/{path.relative_to(self.root)}", 0))
        return Scene(host, Switch(self.client))

    def run(self, check: Check) -> Finding:
        (result,) = run_all([check], self.scene())
        return result.finding

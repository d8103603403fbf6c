# SPDX-License-Identifier: Apache-2.0
"""libvirtd of one host: Debian's configuration, but for what an init system would have given it.

QEMU runs as libvirt-qemu, as the package has it.  Guests' memory is in files below
/var/lib/libvirt/qemu/ram, libvirt's own choice; a tmpfs is mounted there.
"""

from __future__ import annotations

import shutil

from tests.e2e import CloudError
from tests.e2e.cloud.host import Host
from tests.e2e.cloud.service import Service

QEMU_CONF = """
stdio_handler = "file"
cgroup_controllers = []
# The files are on an overlay that exists as long as the host: no use for remembered owners.
remember_owner = 0
namespaces = []
"""
LIBVIRTD_CONF = """
listen_tls = 0
listen_tcp = 1
listen_addr = "{address}"
auth_tcp = "none"
auth_unix_rw = "none"
unix_sock_group = "libvirt"
unix_sock_rw_perms = "0770"
host_uuid = "{uuid}"
log_outputs = "2:stderr"
"""
RAM = "/var/lib/libvirt/qemu/ram"


def service(host: Host) -> Service:
    """libvirtd; it also takes guests that migrate here, over TCP."""
    program = shutil.which("libvirtd", path="/usr/sbin:/usr/bin")
    if program is None:
        raise CloudError("libvirtd is missing: install the package libvirt-daemon")
    host.write("/etc/libvirt/qemu.conf", QEMU_CONF)
    host.write("/etc/libvirt/libvirtd.conf",
               LIBVIRTD_CONF.format(address=host.address, uuid=host.uuid))  # fmt: skip
    host.run("install", "-d", "-o", "libvirt-qemu", "-g", "kvm", RAM)
    host.run("mount", "-t", "tmpfs", "-o", "size=3g,mode=770,uid=libvirt-qemu,gid=kvm", "ram", RAM)
    return Service("libvirtd", [program, "-f", "/etc/libvirt/libvirtd.conf", "--listen"],
                   host.logs / "libvirtd.log", within=host.within)  # fmt: skip


def ready(host: Host) -> bool:
    """Whether it answers."""
    return bool(host.run("virsh", "-c", "qemu:///system", "version", check=False))


def domains(host: Host) -> list[str]:
    """Names of all domains, running or not."""
    return host.run("virsh", "-c", "qemu:///system", "list", "--all", "--name").split()

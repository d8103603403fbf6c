# SPDX-License-Identifier: Apache-2.0
"""MEM-01..03: whether guests get memory that the switch can share.

A vhost-user guest's memory must be a file that QEMU hands over.  Nova gives it
so in two ways only: huge pages of a flavor, or ``file_backed_memory``; plain
libvirt also by memfd.
"""

from __future__ import annotations

import re

from vif_uswitch.cmd import text
from vif_uswitch.cmd.doctor import procs, services
from vif_uswitch.cmd.doctor.host import Host, Ini, words
from vif_uswitch.cmd.doctor.model import Check, Finding, Scene, fail, passed, skip, warn
from vif_uswitch.exceptions import shown

HUGEPAGES = "/sys/kernel/mm/hugepages"
QEMU_CONF = "/etc/libvirt/qemu.conf"
BACKING_DIR = "/var/lib/libvirt/qemu/ram"  # libvirt's default of memory_backing_dir
FILE_BACKED = (f"Mount a tmpfs on {BACKING_DIR} (/etc/fstab: ram {BACKING_DIR} tmpfs"
               " size=64g,mode=0755 0 0); in nova.conf set [libvirt] file_backed_memory (MiB),"
               " ram_allocation_ratio = 1.0 and reserved_host_memory_mb = 0.")


def _file_backed(config: Ini) -> tuple[int, str]:
    """MiB, and the value as it stands there."""
    value = config.get("libvirt", {}).get("file_backed_memory", "0") or "0"
    return (int(value) if value.isdecimal() else -1), value


def _hugepages(host: Host) -> list[tuple[int, int, int]]:
    """(size in KiB, pages, free pages) of each size that has some."""
    found = []
    for name in host.names(HUGEPAGES):
        size = name.removeprefix("hugepages-").removesuffix("kB")
        total = host.number(f"{HUGEPAGES}/{name}/nr_hugepages")
        free = host.number(f"{HUGEPAGES}/{name}/free_hugepages")
        if size.isdecimal() and total:
            found.append((int(size), total, free or 0))
    return found


def can_share(scene: Scene) -> Finding:
    """MEM-01"""
    pages = _hugepages(scene.host)
    huge = ", ".join(f"{free} of {total} huge pages of {text.size(size * 1024)} free"
                     for size, total, free in pages)  # fmt: skip
    try:
        config = services.nova_config(scene.host)
    except ValueError as error:
        return fail(str(error), "Repair it; nova-compute cannot read it either.")
    if config is None:
        return passed(f"no Nova here; {huge or 'no huge pages'}; a domain of libvirt may have"
                      " <source type='memfd'/> and <access mode='shared'/>")  # fmt: skip
    mebi, value = _file_backed(config)
    if mebi < 0:
        return fail(f"[libvirt] file_backed_memory is {shown(value)}, which is no number of MiB",
                    FILE_BACKED)
    if mebi:
        return passed(f"Nova gives guests up to {mebi} MiB of file-backed memory")
    if not pages:
        return fail("Nova has neither file_backed_memory nor huge pages: libvirt refuses a"
                    " vhost-user interface without shared memory", FILE_BACKED)  # fmt: skip
    if not any(free for _, _, free in pages):
        return warn(f"{huge}: the next guest with hw:mem_page_size does not start",
                    "Add huge pages (/etc/sysctl.d: vm.nr_hugepages), or stop guests.")
    return passed(f"{huge}; flavors need hw:mem_page_size")


def file_backed(scene: Scene) -> Finding:
    """MEM-02"""
    host = scene.host
    try:
        config = services.nova_config(host)
    except ValueError as error:
        return skip(str(error), "See MEM-01.")
    mebi, _ = _file_backed(config or {})
    if mebi <= 0:
        return skip("Nova does not use file_backed_memory")
    options = (config or {}).get("DEFAULT", {})
    for name, wanted in (("ram_allocation_ratio", 1.0), ("reserved_host_memory_mb", 0.0)):
        if _as_number(options.get(name)) != wanted:
            is_ = shown(options[name]) if name in options else "not set"
            return fail(f"[DEFAULT] {name} is {is_}: with file_backed_memory nova-compute refuses"
                        " to start", f"Set {name} = {wanted:g} in nova.conf.")  # fmt: skip
    directory = qemu_conf(host).get("memory_backing_dir") or BACKING_DIR
    kind, mount, size = _mount_of(host, directory)
    if kind not in ("tmpfs", "hugetlbfs", "ramfs"):
        return warn(f"{directory} is on {kind or 'an unknown file system'}: guests' memory would"
                    " be written to disk",
                    f"Mount a tmpfs there (/etc/fstab: ram {directory} tmpfs"
                    f" size={mebi}m,mode=0755 0 0); or name one, memory_backing_dir in"
                    f" {QEMU_CONF}, and restart libvirtd.")  # fmt: skip
    size = size or host.capacity(host.at(mount)) // 1024
    if 0 < size < mebi * 1024:
        return fail(f"the {kind} at {mount} holds {size // 1024} MiB, file_backed_memory promises"
                    f" {mebi}: guests die when it is full",
                    f"mount -o remount,size={mebi}m {mount}, or a smaller file_backed_memory.")
    return passed(f"guests' memory lies in {directory}, on {kind}")


def _as_number(value: str | None) -> float | None:
    try:
        return float(value) if value is not None else None
    except ValueError:
        return None


def qemu_conf(host: Host) -> dict[str, str]:
    """libvirt's qemu.conf: ``name = "value"``."""
    found = re.findall(r'(?m)^[ \t]*(\w+)[ \t]*=[ \t]*"?([^"#\n]*?)"?[ \t]*(?:#.*)?$',
                       host.text(QEMU_CONF) or "")
    return dict(found)


def _mount_of(host: Host, path: str) -> tuple[str, str, int]:
    """Type and place of the file system with ``path``, its size in KiB if the options say it;
    those of a tmpfs do not where it has the default size, half of the host's memory."""
    best = ("", "", 0)
    for fields in words(host.text("/proc/mounts") or ""):
        if len(fields) < 4:
            continue
        mount, kind, options = fields[1], fields[2], fields[3]
        below = path == mount or path.startswith(mount.rstrip("/") + "/")
        if below and len(mount) >= len(best[1]):
            best = (kind, mount, _size_option(options))
    return best


def _size_option(options: str) -> int:
    found = re.search(r"(?:^|,)size=(\d+)k(?:,|$)", options)
    return int(found.group(1)) if found else 0


def running_guests(scene: Scene) -> Finding:
    """MEM-03"""
    users, without = 0, []
    for process in procs.processes(scene.host):
        command = "\0".join(process.arguments)
        if "qemu" not in process.arguments[0] or not re.search(r'vhost-user["\0,]', command + "\0"):
            continue
        users += 1
        if not re.search(r'share=(on|yes)|"share": ?true', command):
            without.append(str(process.pid))
    if without:
        return fail(f"QEMU {', '.join(without)} has vhost-user interfaces, but no shared memory",
                    "Give the guest shared memory, see MEM-01, and start it anew (hard reboot).")
    if not users:
        return skip("no guest with a vhost-user interface runs here")
    return passed(f"{text.some(users, 'guest')} with vhost-user interfaces, all with shared memory")


CHECKS = (
    Check("MEM-01", "guests can get shared memory", can_share),
    Check("MEM-02", "Nova's file-backed memory", file_backed),
    Check("MEM-03", "memory of the guests that run", running_guests),
)

# SPDX-License-Identifier: Apache-2.0
"""IOMMU-01..02, LOCK-01: what an uplink needs from the host."""

from __future__ import annotations

import errno
import os
import re
from typing import Any

from vif_uswitch.cmd import text
from vif_uswitch.cmd.doctor import procs
from vif_uswitch.cmd.doctor.host import Host
from vif_uswitch.cmd.doctor.model import Check, Finding, Scene, fail, passed, skip, warn
from vif_uswitch.exceptions import shown

GIVEN = "/etc/uswitch/uplinks.d"  # what "uswitch-uplink bind" writes
DEVICES = "/sys/bus/pci/devices"
HARMLESS = ("", "pci-stub", "pcieport")
BRIDGE = "0x06"
_ADDRESS = re.compile(r"[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
MEBI = 1 << 20
XDP_RING = 1024  # unless the uplink says otherwise; see doc/source/af-xdp.rst
XDP_CHUNK_SMALL, XDP_CHUNK_LARGE, XDP_MTU_SMALL = 2048, 4096, 1770
SHORT = ("locked memory", os.strerror(errno.EDQUOT), "EDQUOT")  # in the reason of a waiting uplink


def _addresses(scene: Scene) -> list[str]:
    """Adapters that are uplinks, or were given to the switch."""
    uplinks = scene.switch.uplinks() or []
    used = {str(uplink["port"].get("pci") or "") for uplink in uplinks}
    given = {name.removesuffix(".conf") for name in scene.host.names(GIVEN)}
    return sorted(address for address in used | given if _ADDRESS.fullmatch(address))


def present(scene: Scene) -> Finding:
    """IOMMU-01"""
    units = scene.host.names("/sys/class/iommu")
    if units:
        return passed(f"{text.some(len(units), 'IOMMU')}: {', '.join(units[:4])}")
    wanted = _addresses(scene)
    todo = ("Enable it in the firmware (VT-d, AMD-Vi), for Intel also with intel_iommu=on on the"
            " kernel's command line. Without it: AF_XDP (uswitchctl uplink add --ifname).")
    if wanted:
        return fail(f"no IOMMU, and {', '.join(wanted)} is to be driven by the switch", todo)
    return warn("no IOMMU: the switch cannot drive adapters itself", todo)


def groups(scene: Scene) -> Finding:
    """IOMMU-02"""
    host, addresses = scene.host, _addresses(scene)
    if not addresses:
        return skip("no adapter was given to the switch")
    for address in addresses:
        if host.stat(f"{DEVICES}/{address}") is None:
            return fail(f"{address} is not in this host any more",
                        f"uswitch-uplink unbind {address}, or put the card back.")
        driver = host.target(f"{DEVICES}/{address}/driver")
        if "vfio" not in driver:
            return fail(f"{address} is driven by {driver or 'nobody'}, not by vfio-pci",
                        f"uswitch-uplink bind {address}")  # fmt: skip
        group = host.target(f"{DEVICES}/{address}/iommu_group")
        if not group:
            return fail(f"{address} is in no IOMMU group", "See IOMMU-01.")
        strangers = _strangers(host, group)
        if strangers:
            return fail(f"IOMMU group {group} of {address} has {', '.join(strangers)}, which the"
                        " kernel drives", "Give all of the group, or move the card to another"
                        " slot; see 'uswitch-uplink list'.")  # fmt: skip
    return passed(f"{', '.join(addresses)}: on vfio, alone in their groups")


def _strangers(host: Host, group: str) -> list[str]:
    found = []
    for address in host.names(f"/sys/kernel/iommu_groups/{group}/devices"):
        driver = host.target(f"{DEVICES}/{address}/driver")
        bridge = host.line(f"{DEVICES}/{address}/class").startswith(BRIDGE)
        if "vfio" not in driver and driver not in HARMLESS and not bridge:
            found.append(f"{address} ({driver})")
    return found


def locked_memory(scene: Scene) -> Finding:
    """LOCK-01"""
    uplinks = scene.switch.uplinks()
    if uplinks is None:
        return skip("uswitchd does not say which uplinks it has", "See CTL-01.")
    driven = [uplink for uplink in uplinks if uplink["port"].get("pci")]
    xdp = [uplink for uplink in uplinks if uplink["port"].get("ifname")]
    if not driven and not xdp:
        return skip("no uplink: nothing is locked")
    process = procs.running(scene.host, "uswitch-dataplane", scene.switch.dataplane().get("pid"))
    allowed = _memlock(scene.host, process.pid) if process else None
    if allowed is None:
        return skip("the dataplane does not run", "See CTL-01.")
    own, why = _of_adapters(scene, driven)
    shared = sum(_of_xdp(uplink) for uplink in xdp)
    if xdp:
        why += [f"{text.size(shared)} for AF_XDP, beside whatever else its user locks on this host"]
    listed = " and ".join(why)
    todo = (f"LimitMEMLOCK={-(-(own + shared) // MEBI)}M in the unit (systemctl edit uswitchd),"
            " then restart uswitchd and its dataplane.")
    if 0 <= allowed < max(own, shared):
        return fail(f"{listed} has to be locked, {text.size(allowed)} may be", todo)
    waiting = [shown(str(one["port"].get("name"))) for one in driven + xdp
               if any(word in str(one["port"].get("reason") or "") for word in SHORT)]
    if waiting:
        return fail(f"{', '.join(waiting)} needs more locked memory than {_amount(allowed)}",
                    "uswitchctl uplink show NAME says how much; LimitMEMLOCK in the unit.")
    if 0 <= allowed < own + shared:  # VFIO's containers are counted by process, IOMMUFD by user
        return warn(f"{listed}: more than {text.size(allowed)} together, which some kernels count",
                    todo)
    return passed(f"{listed}; allowed: {_amount(allowed)}")


def _of_adapters(scene: Scene, driven: list[dict[str, Any]]) -> tuple[int, list[str]]:
    """Bytes that adapters lock which the switch drives itself, and what for."""
    if not driven:
        return 0, []
    pools = sum(int((uplink.get("adapter") or {}).get("pool_bytes") or 0) for uplink in driven)
    copies = sum(1 for uplink in driven if uplink.get("zero_copy"))
    guests = copies and sum(scene.switch.memory_of(str(port["name"]))
                            for port in scene.switch.ports() or [])
    why = [f"{text.size(pools)} for adapters"]
    if copies:
        why.append(f"{text.size(copies * guests)} of guests' memory for zero copy")
    return pools + copies * guests, why


def _of_xdp(uplink: dict[str, Any]) -> int:
    """Bytes that are shared with the kernel: as the dataplane says, else as it will be."""
    told = int((uplink.get("adapter") or {}).get("pool_bytes") or 0)
    port = uplink["port"]
    small = int(port.get("mtu") or 0) <= XDP_MTU_SMALL
    chunks = 2 * int(uplink.get("ring_size") or XDP_RING) * int(port.get("queues") or 1)
    return told or chunks * (XDP_CHUNK_SMALL if small else XDP_CHUNK_LARGE)


def _amount(allowed: int) -> str:
    return "any" if allowed < 0 else text.size(allowed)


def _memlock(host: Host, pid: int) -> int | None:
    """Bytes, -1 without a limit, None if the process is gone."""
    found = re.search(r"(?m)^Max locked memory\s+(\S+)", host.text(f"/proc/{pid}/limits") or "")
    if found is None:
        return None
    return int(found.group(1)) if found.group(1).isdecimal() else -1


CHECKS = (
    Check("IOMMU-01", "there is an IOMMU", present),
    Check("IOMMU-02", "groups of the switch's adapters", groups),
    Check("LOCK-01", "memory that may be locked (MEMLOCK)", locked_memory),
)

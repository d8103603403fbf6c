# SPDX-License-Identifier: Apache-2.0
"""``uswitch-uplink bind | unbind | restore``: adapters for the switch, and back to the kernel.

This file and ``host.py`` are all that runs with root's rights (a test counts): no socket, nothing
read that a guest or the network could have written.  ``checks.py`` finds out whether an adapter may
be taken, ``cli.py`` does all that is no change; both run as nobody.

``bind`` gives the adapter's device files to the group, by a udev rule and at once, remembers it in
a file and moves it to vfio-pci.  ``restore``, at boot, binds what is remembered.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence

from vif_uswitch.uplink.host import CONFIG, GROUP, HERE, NOBODY, VFIO, Refused, RootHost, sysfs

MODE = 0o660
ADDRESS = re.compile(r"(?:[0-9a-f]{4,8}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")


def bind(host: RootHost, addresses: Sequence[str]) -> list[str]:
    """Takes adapters; all or none.  Returns what was done, a line each."""
    said: list[str] = []
    known, touched = host.configured(), dict[str, bool]()
    loads = not host.path(f"/sys/bus/pci/drivers/{VFIO}").is_dir()
    try:
        if loads:
            host.run(("modprobe", VFIO))
            said.append(f"loaded module {VFIO}")
        # One of the two is how memory is mapped; which one the kernel has is its own affair.
        host.attempt("modprobe", "-qa", "vfio_iommu_type1", "iommufd")
        host.check("bind", addresses)  # with the parameters that the modules brought along
        for address in addresses:
            touched[address] = host.driver(address) == VFIO
            said += _take(host, address) or [f"{address}: was bound already"]
    except (OSError, Refused, KeyboardInterrupt) as error:
        state = _undo(host, touched, known)
        if loads:
            host.attempt("modprobe", "-r", VFIO)
        if not touched:
            raise
        raise Refused(f"{str(error).rstrip('.') or 'interrupted'}. {state}") from error
    return [*said, f"undo: uswitch-uplink unbind {' '.join(addresses)}"]


def _undo(host: RootHost, touched: dict[str, bool], known: Sequence[str]) -> str:
    """Adapters where they were, on vfio-pci or not.  Says how that went."""
    failed = []
    for address, taken in touched.items():
        try:
            if address not in known:
                _forget(host, address)
            _move(host, address, taken)
        except OSError as error:
            failed.append(f"{address} ({error})")
    return f"NOT undone: {'; '.join(failed)}." if failed else "Everything is as before."


def _take(host: RootHost, address: str) -> list[str]:
    said = [f"{address}: wrote {path}" for path, text in _files(host, address).items()
            if host.store(path, text)]  # fmt: skip
    if said:
        host.attempt("udevadm", "control", "--reload")
    said += _move(host, address, True)
    if host.driver(address) != VFIO:
        raise Refused(f"adapter {address}: {VFIO} did not take it (it has"
                      f" {host.driver(address) or 'no driver'}). The kernel log says why.")
    return said + _give_nodes(host, address)


def _move(host: RootHost, address: str, taken: bool) -> list[str]:
    """To vfio-pci, or to the driver that the kernel has for it; from wherever it is."""
    before, driver = _described(host, address), host.driver(address)
    if (host.text(sysfs(address, "driver_override")) == VFIO) is not taken:
        host.write(sysfs(address, "driver_override"), VFIO if taken else "\n")
    if driver and (driver == VFIO) is not taken:
        host.write(sysfs(address, "driver/unbind"), address)
    if not host.driver(address):
        host.write("/sys/bus/pci/drivers_probe", address)
    after = _described(host, address)
    return [f"{address}: {before} -> {after}"] if driver != host.driver(address) else []


def _described(host: RootHost, address: str) -> str:
    """An adapter's driver and interfaces: "igb (eth1)"."""
    names = ", ".join(host.interfaces(address))
    return (host.driver(address) or "no driver") + (f" ({names})" if names else "")


def _files(host: RootHost, address: str) -> dict[str, str]:
    """Path: text.  %k is a group's number; the service is for drivers that were there first."""
    vendor, device = (host.text(sysfs(address, name)) for name in ("vendor", "device"))
    note = f'# By "uswitch-uplink bind {address}"; "uswitch-uplink unbind {address}" removes it.'
    give = f'GROUP="{GROUP}", MODE="{MODE:04o}"'
    return {
        f"{CONFIG}/{address}.conf": f"{note}\nvendor = {vendor}\ndevice = {device}\n",
        f"/etc/udev/rules.d/60-uswitch-uplink-{address}.rules": f"""{note}
ACTION=="add", SUBSYSTEM=="pci", KERNEL=="{address}", ATTR{{vendor}}=="{vendor}", \
ATTR{{device}}=="{device}", ATTR{{driver_override}}="{VFIO}", TAG+="systemd", \
ENV{{SYSTEMD_WANTS}}+="uswitch-uplink.service"
SUBSYSTEM=="vfio", TEST=="/sys/kernel/iommu_groups/%k/devices/{address}", {give}
SUBSYSTEM=="vfio-dev", KERNELS=="{address}", {give}
""",
    }


def _nodes(host: RootHost, address: str) -> list[str]:
    """Of the group, and of the device where the kernel has those (Linux 6.6 and later)."""
    return [f"/dev/vfio/{host.link(sysfs(address, 'iommu_group'))}",
            *(f"/dev/vfio/devices/{name}" for name in host.names(sysfs(address, "vfio-dev")))]


def _give_nodes(host: RootHost, address: str) -> list[str]:
    """Device files to the group.  udev does the same by the rule, where it runs."""
    said, own, gid = [], _nodes(host, address), host.gid()
    if not any(host.path(node).exists() for node in own):
        raise Refused(f"adapter {address}: there is no {' or '.join(own)}. Is /dev a devtmpfs? The"
                      " kernel log may say why.")
    for node in (*own, "/dev/iommu"):
        path = host.path(node)
        now = (path.stat().st_gid, path.stat().st_mode & 0o777) if path.exists() else (gid, MODE)
        # Another group may have been given it on purpose.
        if now != (gid, MODE) and now[0] in (0, gid):
            os.chown(path, -1, gid)
            path.chmod(MODE)
            said.append(f"{node}: group {GROUP}, mode {MODE:04o}")
    return said


def _forget(host: RootHost, address: str) -> list[str]:
    gone = [path for path in reversed(_files(host, address)) if host.path(path).exists()]
    for path in gone:
        host.path(path).unlink()
    host.attempt("udevadm", "control", "--reload")
    return [f"{address}: removed {path}" for path in gone]


def unbind(host: RootHost, addresses: Sequence[str]) -> list[str]:
    """Gives one back to the kernel and forgets it."""
    (address,), said = addresses, []
    host.check("unbind", addresses)
    if not host.path(sysfs(address)).is_dir():
        said.append(f"{address}: is not in this host any more")
    elif address in host.configured():
        if host.driver(address) == VFIO and (users := host.holders(_nodes(host, address))):
            raise Refused(f"adapter {address}: {users} has it open, and the kernel would wait for"
                          " that without end. Delete the uplink (uswitchctl uplink delete), or"
                          " stop it.")
        host.attempt("modprobe", "-q", "--", host.text(sysfs(address, "modalias")))
        said += _move(host, address, False)
    return said + _forget(host, address) or [f"{address}: the switch does not have it"]


def restore(host: RootHost, addresses: Sequence[str]) -> list[str]:
    """At boot, and when an adapter appears: takes one that is remembered."""
    if not ADDRESS.fullmatch(addresses[0]):
        raise Refused(f"{CONFIG}/{addresses[0]}.conf: is no adapter's file. Remove it.")
    if not host.path(sysfs(*addresses)).is_dir():
        return [f"{addresses[0]}: does not exist"]
    return bind(host, addresses)[:-1]


def main(argv: Sequence[str] | None = None, host: RootHost | None = None) -> int:
    words, host = list(sys.argv[1:] if argv is None else argv), host or RootHost()
    change = {"bind": bind, "unbind": unbind, "restore": restore}.get("".join(words[:1]))
    asked = [one.lower() for one in words[1:]]
    well_formed = bool(asked) is not (change is restore) and all(map(ADDRESS.fullmatch, asked))
    if not change or not well_formed or os.geteuid() != 0:
        return _leave(words)
    status, full = 0, sorted({one if one.count(":") == 2 else f"0000:{one}" for one in asked})
    for together in [full] if change is bind else [[one] for one in full or host.configured()]:
        try:
            with host.lock():
                print("\n".join(change(host, together)))
        except (Refused, OSError) as error:
            print(f"uswitch-uplink: {error}", file=sys.stderr)
            status = error.status if isinstance(error, Refused) else 1
    return status


def _leave(words: list[str]) -> int:
    os.chdir(HERE)
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    os.execv(sys.executable, [sys.executable, "-m", "vif_uswitch.uplink.cli", *words])

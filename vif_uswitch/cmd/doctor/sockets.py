# SPDX-License-Identifier: Apache-2.0
"""SOCK-01..04, CTL-01..02: who may create, reach and use the sockets.

QEMU listens and uswitchd connects: QEMU's user needs the directory, uswitchd's
user needs the group of what QEMU makes there.  "Permission denied" here is
what most installations meet first, so every answer names user, group and mode.
"""

from __future__ import annotations

import os
import stat

from vif_uswitch.access import SEARCH, WRITE, Identity, may, read_acl
from vif_uswitch.cmd import text
from vif_uswitch.cmd.doctor import own, procs, services
from vif_uswitch.cmd.doctor.host import Host
from vif_uswitch.cmd.doctor.memory import qemu_conf
from vif_uswitch.cmd.doctor.model import Check, Finding, Scene, Unseen, fail, passed, skip, warn
from vif_uswitch.exceptions import DaemonUnreachable, shown

# Distributions' users for QEMU, and the group its sockets get: Debian and Ubuntu, then the others.
QEMU_USERS = (("libvirt-qemu", "kvm"), ("qemu", "qemu"))
TMPFILES = "systemd-tmpfiles --create uswitch.conf"
NAMES_MAX = 5
# Agents that plug their devices into the switch by an interface driver, and their usual files.
INTERFACE_USERS = {
    "neutron-dhcp-agent": "/etc/neutron/dhcp_agent.ini",
    "neutron-l3-agent": "/etc/neutron/l3_agent.ini",
}


def described(host: Host, path: str, info: os.stat_result) -> str:
    """"/run/uswitch/vhost (uswitch:kvm 2775)"."""
    owner = f"{host.accounts.user_name(info.st_uid)}:{host.accounts.group_name(info.st_gid)}"
    return f"{path} ({owner} {stat.S_IMODE(info.st_mode):04o})"


def switch_user(scene: Scene) -> Identity | None:
    """Whom uswitchd runs as; where it does not run, who it is meant to."""
    process = procs.running(scene.host, "uswitchd", scene.switch.daemon().get("pid"))
    running = procs.identity(scene.host, process.pid) if process else None
    return running or scene.host.identity_of("uswitch")


def qemu_user(host: Host) -> tuple[Identity, str] | None:
    """QEMU's user, and the group that libvirt gives it; from qemu.conf, else the distribution's."""
    try:
        settings = qemu_conf(host)
    except Unseen:  # it is closed on many hosts; then the defaults are the best guess
        settings = {}
    candidates = [(settings["user"], settings.get("group", ""))] if settings.get("user") else []
    for name, group in (*candidates, *QEMU_USERS):
        found = host.identity_of(name)
        if found is None:
            continue
        gid = host.accounts.group(settings.get("group") or group)
        own = found.gids if gid is None else found.gids | {gid}
        return Identity(found.name, found.uid, own), settings.get("group") or group
    return None


def _directory(scene: Scene) -> tuple[str, os.stat_result | None]:
    path = scene.switch.vhost_socket_dir()
    return path, scene.host.stat(path)


def directory(scene: Scene) -> Finding:
    """SOCK-01"""
    path, info = _directory(scene)
    mine = own.owner(scene)
    make = "start uswitchd --user, which makes it" if mine else TMPFILES
    if info is None:
        return fail(f"{path} does not exist", f"Start uswitchd, or make it: {make}")
    seen = described(scene.host, path, info)
    if not stat.S_ISDIR(info.st_mode):
        return fail(f"{seen} is no directory", f"Remove it; then {make}")
    who = mine or switch_user(scene)
    if who is None:
        return skip("uswitchd does not run, and there is no user uswitch",
                    "Make it: systemd-sysusers uswitch.conf; or start uswitchd.")  # fmt: skip
    acl = read_acl(scene.host.at(path))
    if not may(who, info, WRITE | SEARCH, acl):
        return fail(f"{seen}: uswitchd's user {who.name} may not write there",
                    f"chown {who.name} {path}")
    if info.st_mode & stat.S_IWOTH:
        return fail(f"{seen}: everybody may replace a guest's socket", f"chmod o-w {path}")
    if mine:
        return passed(f"{seen}, of {mine.name}'s own switch")
    if not info.st_mode & stat.S_ISGID and read_acl(scene.host.at(path), "default") is None:
        return warn(f"{seen} is not setgid: sockets there get QEMU's group instead of the"
                    " directory's", f"chmod g+s {path}")  # fmt: skip
    return passed(seen)


def qemu_may_create(scene: Scene) -> Finding:
    """SOCK-02"""
    path, info = _directory(scene)
    if info is None:
        return skip(f"{path} does not exist", "See SOCK-01.")
    if mine := own.owner(scene):
        return passed(f"QEMU of qemu:///session is {mine.name} too, who may create sockets in"
                      f" {path}")  # fmt: skip
    found = qemu_user(scene.host)
    if found is None:
        return skip("no user of QEMU's here (libvirt-qemu, qemu, or as in qemu.conf)",
                    "If libvirt runs in a container, look there: the user's number counts.")
    who, _ = found
    if may(who, info, WRITE | SEARCH, read_acl(scene.host.at(path))):
        return passed(f"{who.name} may create sockets in {path}")
    return fail(
        f"{described(scene.host, path, info)}: QEMU's user {who.name} may not create sockets there",
        f"chgrp {found[1] or who.name} {path} && chmod 2775 {path}; for good in tmpfiles.d.",
    )


def switch_may_connect(scene: Scene) -> Finding:
    """SOCK-03"""
    path, info = _directory(scene)
    mine = own.owner(scene)
    who = mine or switch_user(scene)
    if info is None or who is None:
        return skip(f"{path} or uswitchd's user does not exist", "See SOCK-01.")
    for name, one in _sockets(scene.host, path):
        if not may(who, one, WRITE, read_acl(scene.host.at(f"{path}/{name}"))):
            return fail(f"{described(scene.host, f'{path}/{shown(name)}', one)}: uswitchd's user"
                        f" {who.name} may not connect to it", _membership(scene, who, one.st_gid))
    if mine:
        return passed(f"{mine.name} may connect to what {mine.name}'s QEMU listens on in {path}")
    default = read_acl(scene.host.at(path), "default")
    if default is not None and default.users.get(who.uid, 0) & default.mask & WRITE:
        return passed(f"the default ACL of {path} lets {who.name} connect to new sockets")
    if who.uid != 0 and info.st_mode & stat.S_ISGID and info.st_gid not in who.gids:
        return fail(f"sockets in {described(scene.host, path, info)} belong to its group, and"
                    f" {who.name} is not in it", _membership(scene, who, info.st_gid))
    found = qemu_user(scene.host)
    if found and not info.st_mode & stat.S_ISGID and not (found[0].gids & who.gids or not who.uid):
        return fail(f"{who.name} has no group in common with QEMU's user {found[0].name}",
                    f"usermod -a -G {found[1]} {who.name}, and restart uswitchd.")
    return passed(f"{who.name} may connect to what QEMU listens on in {path}")


def _membership(scene: Scene, who: Identity, gid: int) -> str:
    group = scene.host.accounts.group_name(gid)
    entry = scene.host.identity_of(who.name)
    if entry and gid in entry.gids:
        return f"{who.name} is in group {group} by now, uswitchd is not: restart uswitchd."
    return (f"usermod -a -G {group} {who.name}, and restart uswitchd. Or: setfacl -d -m"
            f" u:{who.name}:rw DIRECTORY")  # fmt: skip


def _sockets(host: Host, path: str) -> list[tuple[str, os.stat_result]]:
    found = []
    for name in host.names(path):
        info = host.stat(f"{path}/{name}")
        if info is not None and stat.S_ISSOCK(info.st_mode):
            found.append((name, info))
    return found


def stale(scene: Scene) -> Finding:
    """SOCK-04"""
    path, info = _directory(scene)
    if info is None:
        return skip(f"{path} does not exist", "See SOCK-01.")
    unix = scene.host.text("/proc/net/unix")
    if unix is None:
        return skip("there is no /proc/net/unix", "It is the kernel's list of sockets in use.")
    # By name alone: uswitchd binds its own by way of /proc/self/fd, and the kernel keeps that path.
    bound = {os.path.basename(line) for line in unix.splitlines()[1:] if len(line.split()) >= 8}
    names = [name for name, _ in _sockets(scene.host, path)]
    dead = [name for name in names if name not in bound and f"{path}/{name}" not in _used(scene)]
    if not dead:
        return passed(f"{text.some(len(names), 'socket')}, none that a dead QEMU left")
    listed = ", ".join(shown(name) for name in dead[:NAMES_MAX])
    more = f" and {len(dead) - NAMES_MAX} more" if len(dead) > NAMES_MAX else ""
    return warn(f"nobody listens on {listed}{more} in {path}: left by a QEMU that died",
                "Harmless, a new QEMU replaces it. If the guest is gone for good: uswitchctl port"
                " delete NAME (without .sock).")  # fmt: skip


def _used(scene: Scene) -> set[str]:
    """Sockets of ports that are connected, or on which uswitchd listens; the kernel's list leaves
    out those of another network namespace."""
    return {str(port.get("path")) for port in scene.switch.ports() or []
            if port.get("mode") == "client" or port.get("link") in ("up", "negotiating")}


def control(scene: Scene) -> Finding:
    """CTL-01"""
    path = scene.switch.control_socket
    if scene.switch.show() is not None:
        daemon = scene.switch.daemon()
        return passed(f"uswitchd {daemon.get('version', '?')}, pid {daemon.get('pid', '?')},"
                      f" answers on {path}")  # fmt: skip
    error = scene.switch.error
    if error is None:
        return fail(f"uswitchd answered nothing on {path}", "See its log.")
    if isinstance(error, DaemonUnreachable) and "may not be used by you" in error.why:
        return skip(f"user {scene.host.me.name} may not use {path}", error.todo)
    manager = "systemctl --user" if own.owner(scene) else "systemctl"
    return fail(f"{error.what} {error.value or path}: {error.why or 'no answer'}",
                error.todo or f"Restart uswitchd: {manager} restart uswitchd")


def control_group(scene: Scene) -> Finding:
    """CTL-02"""
    path = scene.switch.control_socket
    info = scene.host.stat(path)
    if info is None:
        return skip(f"{path} does not exist", "See CTL-01.")
    asked: list[str] = []
    for program in ("nova-compute", services.AGENT, *INTERFACE_USERS):
        process = procs.find(scene.host, program)
        who = procs.identity(scene.host, process.pid) if process else None
        if who is None or process is None or not _uses_it(scene.host, process, program):
            continue
        if not may(who, info, WRITE, read_acl(scene.host.at(path))):
            return fail(
                f"{described(scene.host, path, info)}: {program} runs as {who.name}, which may not"
                " use it", f"Set control_group in uswitchd.conf, make {who.name} a member of that"
                f" group, and restart uswitchd and {program}.")  # fmt: skip
        asked.append(program)
    if not asked:
        return skip("neither nova-compute nor an agent that uses it runs here")
    listed = " and ".join(filter(None, (", ".join(asked[:-1]), asked[-1])))
    return passed(f"{listed} may use {path}")


def _uses_it(host: Host, process: procs.Process, program: str) -> bool:
    """The DHCP and L3 agents do where their interface driver is ours, and may have another."""
    if program not in INTERFACE_USERS:
        return True
    usual = ("/etc/neutron/neutron.conf", INTERFACE_USERS[program])
    directories = ("/etc/neutron/neutron.conf.d", f"/etc/neutron/{program}.conf.d")
    try:
        config = services.configuration(host, process, usual, directories) or {}
    except ValueError:  # then it does not run for long either
        return False
    return "uswitch" in config.get("DEFAULT", {}).get("interface_driver", "")


CHECKS = (
    Check("CTL-01", "uswitchd answers on its control socket", control),
    Check("CTL-02", "Nova and Neutron may use the control socket", control_group),
    Check("SOCK-01", "the directory of the vhost-user sockets", directory),
    Check("SOCK-02", "QEMU may create sockets there", qemu_may_create),
    Check("SOCK-03", "uswitchd may connect to QEMU's sockets", switch_may_connect),
    Check("SOCK-04", "sockets that a dead QEMU left", stale),
)

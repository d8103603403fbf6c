# SPDX-License-Identifier: Apache-2.0
"""What the hook has to do: which ports to make, which to delete, which guest must not start.

Decisions only; ``qemu.py`` carries them out.  Ports of a domain are known by
their external ids (owner, domain-uuid), never by their names alone: what
somebody else made, by hand or for a cloud, is left as it is, and serves the
guest as well as ours would, unless it serves another one.

An interface is ours if its socket is below the directory of vhost-user
sockets, or if the domain's metadata name it.  All others belong to somebody
else's switch, and so do all interfaces of a domain that Nova made.

Standard library only.  ``below()`` follows symbolic links on this host, nothing
else here looks at it.
"""

from __future__ import annotations

import errno
import os

from vif_uswitch.exceptions import Conflict, Forbidden, InvalidInput, USwitchError, shown
from vif_uswitch.hooks.domain_xml import (
    ASKED_AT,
    OWNER,
    DomainXml,
    HostSettings,
    Interface,
    port_name,
    settings_to_port,
)
from vif_uswitch.places import UNIX_PATH_MAX
from vif_uswitch.records import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    Port = dict[str, Any]  # as the API has it

DENIED = os.strerror(errno.EACCES)


class Plan(NamedTuple):
    """Carried out in this order: delete, make."""

    delete: tuple[str, ...] = ()  # names
    make: tuple[Port, ...] = ()  # for port.ensure
    refused: tuple[tuple[str, USwitchError], ...] = ()  # (MAC address, why it gets no port)
    notes: tuple[str, ...] = ()  # for an administrator


def real(path: str) -> str:
    """The path of a socket as uswitchd compares it: links in its directory followed."""
    return os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))


def below(path: str, directory: str) -> bool:
    """Whether a socket of that path is in that directory, or deeper in it."""
    if not path.startswith("/") or not path.isprintable():
        return False
    base = os.path.realpath(directory)
    return os.path.commonpath([base, os.path.dirname(real(path))]) == base


def ours(domain: DomainXml, directory: str) -> tuple[Interface, ...]:
    """The interfaces of the domain that must have a port of uswitchd."""
    if domain.nova:
        return ()
    named = {*domain.ports, *domain.refused}
    return tuple(
        each for each in domain.vhost_users
        if each.path and (each.mac in named or below(each.path, directory))
    )  # fmt: skip


def mine(domain: DomainXml, ports: Iterable[Port]) -> list[Port]:
    """Those of ``ports`` that libvirt's side made for this domain."""
    wanted = {"owner": OWNER, "domain-uuid": domain.uuid}
    return [port for port in ports
            if all(port["external_ids"].get(key) == value for key, value in wanted.items())]


def prepare(
    domain: DomainXml, known: Iterable[Port], directory: str, defaults: HostSettings, uri: str
) -> Plan:
    """Before QEMU is started: the domain's ports shall be as its XML says, and no others."""
    make, refused = _wanted(domain, ours(domain, directory), directory, defaults, uri)
    fitting = {(port["name"], real(port["path"]), port["mode"]) for port in make}
    delete = tuple(
        port["name"] for port in mine(domain, known)
        if (port["name"], port["path"], port["mode"]) not in fitting
    )  # fmt: skip
    return Plan(delete, tuple(make), tuple(refused), _left_over(domain))


def reconnect(
    domain: DomainXml, known: Iterable[Port], directory: str, defaults: HostSettings, uri: str
) -> Plan:
    """libvirtd is back and the guest runs: make what is missing, take away what nobody uses.

    A port that is there stays as it is: somebody may have changed it since
    the guest was started, and the XML is not news.
    """
    make, refused = _wanted(domain, ours(domain, directory), directory, defaults, uri)
    have = mine(domain, known)
    names = {port["name"] for port in have}
    wanted = {port_name(domain, each.mac) for each in domain.vhost_users}
    delete = tuple(
        port["name"] for port in have if port["name"] not in wanted and port["link"] != "up"
    )
    missing = tuple(port for port in make if port["name"] not in names)
    return Plan(delete, missing, tuple(refused))


def release(domain: DomainXml, known: Iterable[Port], ended: float) -> list[Port]:
    """The guest is gone: so are its ports, those of interfaces that came later as well.

    ``ended``: when, in seconds after the host's start.  libvirt has not waited, so the guest may
    have been started again: ports that were asked for since are those of the next one.
    """
    return [port for port in mine(domain, known) if asked_at(port) < ended]


def asked_at(port: Port) -> float:
    """Seconds after the host's start; 0 for a port that no hook has made."""
    try:
        return float(port["external_ids"].get(ASKED_AT, "0"))
    except ValueError:  # somebody wrote there
        return 0.0


def _wanted(
    domain: DomainXml, interfaces: Iterable[Interface], directory: str, defaults: HostSettings,
    uri: str,
) -> tuple[list[Port], list[tuple[str, USwitchError]]]:  # fmt: skip
    make: list[Port] = []
    refused: list[tuple[str, USwitchError]] = []
    for each in interfaces:
        try:
            port = settings_to_port(domain, each, domain.settings(each.mac), defaults, uri)
            if not below(each.path, directory):
                raise InvalidInput(
                    "socket path", each.path, f"is not below {directory}, the directory of"
                    " vhost-user sockets, but the metadata name this interface",
                    "Move it there, or take its entry out of <uswitch:ports>.",
                )  # fmt: skip
            make.append(port)
        except InvalidInput as error:
            refused.append((each.mac, error))
    return make, refused


def _left_over(domain: DomainXml) -> tuple[str, ...]:
    macs = {each.mac for each in domain.vhost_users}
    extra = sorted(mac for mac in {*domain.ports, *domain.refused} - macs if mac)
    return tuple(
        f"the metadata name interface {mac}, and no vhostuser interface has that address"
        for mac in extra
    )


def occupied(
    port: Port, others: Iterable[Port], error: Conflict, running: bool = False
) -> None:
    """uswitchd refused ``port``: fine if somebody made one by hand for this guest, else raises.

    ``running``: the guest runs already, so a port that is in use serves it.
    """
    path = real(port["path"])
    other = next((each for each in others if each["path"] == path), None)
    if other is None or other["name"] == port["name"]:
        raise error
    delete = f"uswitchctl port delete {shown(other['name'])}"
    if other["external_ids"].get("owner") == OWNER:
        raise Conflict(
            "socket", path, f"belongs to {_whose(other, port)}",
            f"Give each interface a socket of its own; if that one is no more: {delete}",
        )  # fmt: skip
    if other["mode"] != port["mode"]:
        raise Conflict(
            "socket", path, f"belongs to port {shown(other['name'])}, which has mode"
            f" {other['mode']}, and the interface has mode {port['mode']}: both sides would"
            + (" listen" if port["mode"] == "server" else " connect"),
            f"Delete that port: {delete}",
        )  # fmt: skip
    if other["link"] in ("negotiating", "up") and not running:
        raise Conflict(
            "socket", path, f"belongs to port {shown(other['name'])}, which serves another QEMU",
            "Give each interface a socket of its own.",
        )  # fmt: skip


def _whose(other: Port, port: Port) -> str:
    """The interface that libvirt's side made ``other`` for."""
    ids = other["external_ids"]
    mac = shown(ids.get("mac", "?"))
    if ids.get("domain-uuid") == port["external_ids"]["domain-uuid"]:
        return f"interface {mac} of the same domain"
    return f"domain {shown(ids.get('domain', '?'))}, interface {mac}"


def check_reachable(port: Port) -> None:
    """Raises Forbidden if uswitchd says that it cannot get at the socket: QEMU would wait."""
    if port["link"] == "waiting" and DENIED in port["reason"]:
        raise Forbidden(
            "socket", port["path"], f"uswitchd was denied access to it: {port['reason']}",
            "Give the directory to uswitchd's user and to a group that QEMU's user is in, with"
            " mode 2775.",
        )  # fmt: skip


def moved(domain: DomainXml, directory: str) -> dict[str, str]:
    """Socket paths of this host, by MAC address, for a domain that comes from another one.

    The name of the socket stays.  An interface is ours if the metadata name
    it, or if its socket is called after its port.
    """
    found: dict[str, str] = {}
    if domain.nova:
        return found
    named = {*domain.ports, *domain.refused}
    for each in domain.vhost_users:
        name = os.path.basename(each.path)
        if each.mac not in named and name != f"{port_name(domain, each.mac)}.sock":
            continue
        if below(each.path, directory):
            continue
        path = os.path.join(directory, name)
        if name in ("", ".", "..") or len(os.fsencode(path)) > UNIX_PATH_MAX:
            raise InvalidInput(
                "socket path", path, f"cannot be that of interface {each.mac} on this host: it"
                f" has {len(os.fsencode(path))} bytes, the kernel allows {UNIX_PATH_MAX}",
                "Set a shorter vhost_socket_dir in uswitchd.conf.",
            )  # fmt: skip
        found[each.mac] = path
    return found

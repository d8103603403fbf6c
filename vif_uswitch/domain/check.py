# SPDX-License-Identifier: Apache-2.0
"""``uswitchctl domain check``: why a domain's interfaces do not switch, or will not.

A check is a function of what the domain says, what uswitchd says and what the
file system says (``reach``).  Nothing is changed, no socket is touched.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vif_uswitch.access import Identity
from vif_uswitch.domain import interfaces, reach
from vif_uswitch.domain.affect import Affect, words
from vif_uswitch.domain.tree import Element, attribute
from vif_uswitch.exceptions import USwitchError
from vif_uswitch.hooks.domain_xml import VHOST_USER, DomainXml, Interface, port_name
from vif_uswitch.hooks.plan import below

Json = dict[str, Any]
PASST = "passt"  # a back end that libvirt starts itself, without a switch
DOCTOR = "See 'uswitchctl doctor --only SOCK'."


class Status(enum.Enum):
    PASS = "PASS"
    WARN = "WARN"  # works, or will; never changes the exit status
    FAIL = "FAIL"
    SKIP = "SKIP"  # not for this user to see


@dataclass(frozen=True, slots=True)
class Finding:
    """``about``: the MAC address of an interface, or "" for the domain."""

    check: str
    about: str
    status: Status
    text: str
    todo: str = ""


@dataclass(frozen=True, slots=True)
class Switch:
    """What uswitchd says; ``who``: whom it runs as, None if that is not to be seen."""

    directory: str
    ports: Mapping[str, Json]  # by socket
    who: Identity | None = None


@dataclass(frozen=True, slots=True)
class Side:
    """One description of the domain: ``which``, and each interface beside its element."""

    which: Affect
    domain: DomainXml
    elements: tuple[Element, ...]


def check(side: Side, switch: Switch | USwitchError, obstacle: Callable[[str, Identity], str]
          = reach.obstacle, listening: Callable[[str], bool | None] = reach.listening,
          ) -> list[Finding]:  # fmt: skip
    """All findings about one description; ``switch``: an error if uswitchd does not answer."""
    found = [*_memory(side), *_metadata(side)]
    if isinstance(switch, USwitchError):
        found.append(_no_switch(switch))
    for one, element in zip(side.domain.interfaces, side.elements, strict=True):
        if one.type != VHOST_USER or attribute(element, "backend", "type") == PASST:
            continue
        found += _device(one, element)
        if isinstance(switch, USwitchError):
            continue
        found += _port(side, one, element, switch)
        port = interfaces.port_at(switch.ports, one.path)
        if port is not None and side.which is Affect.LIVE:
            found.append(_link(one, port, switch, obstacle, listening))
    return found


def stuck(name: str, uuid: str, switch: Switch | USwitchError, error: USwitchError,
          obstacle: Callable[[str, Identity], str] = reach.obstacle,
          listening: Callable[[str], bool | None] = reach.listening) -> list[Finding]:  # fmt: skip
    """Of a domain that libvirt tells nothing about: QEMU waits, perhaps for one of its ports."""
    found = [Finding("DOM-04", "", Status.FAIL, f"{error.what} {error.value}: {error.why}",
                     "If a port of it waits, that is why; the guest goes on when the port is up.")]
    if isinstance(switch, USwitchError):
        return [*found, _no_switch(switch)]
    for one in interfaces.of_ports(name, uuid, switch.ports).interfaces:
        found.append(_link(one, switch.ports[one.path], switch, obstacle, listening))
    return found


def _no_switch(error: USwitchError) -> Finding:
    """It says itself what to do about it: not running and not allowed are two things."""
    return Finding("DOM-03", "", Status.FAIL, str(error))


def _memory(side: Side) -> Iterator[Finding]:
    whose = words(side.which)
    if not side.domain.vhost_users:
        yield Finding("DOM-01", "", Status.WARN, f"the {whose} has no vhost-user interface",
                      "See 'uswitchctl domain attach --help' and 'domain convert'.")  # fmt: skip
    elif side.domain.shared_memory:
        yield Finding("DOM-01", "", Status.PASS, f"the {whose} shares its memory")
    else:
        yield Finding(
            "DOM-01", "", Status.FAIL, f"the {whose} does not share its memory: the switch"
            " cannot reach it, and libvirt refuses it", "Put <source type='memfd'/><access"
            " mode='shared'/> into <memoryBacking>; 'uswitchctl domain attach --config' and"
            " 'convert' do it.",
        )  # fmt: skip


def _metadata(side: Side) -> Iterator[Finding]:
    for mac, error in side.domain.refused.items():
        yield Finding("DOM-02", mac, Status.FAIL, f"metadata: {error}",
                      "Correct it: 'virsh edit', or attach anew.")  # fmt: skip
    if not side.domain.refused and side.domain.ports:
        macs = {one.mac for one in side.domain.vhost_users}
        for mac in sorted(set(side.domain.ports) - macs):
            yield Finding("DOM-02", mac, Status.WARN, "the metadata have an entry for an interface"
                          f" that the {words(side.which)} does not have",
                          "It does no harm; 'virsh edit' removes it.")  # fmt: skip


def _device(one: Interface, element: Element) -> Iterator[Finding]:
    """What the XML of the interface itself says."""
    if one.mode not in ("server", "client") or not one.path:
        yield Finding("NIC-01", one.mac, Status.FAIL, "the source has no path or no mode",
                      "Write <source type='unix' path='…' mode='server'/>.")  # fmt: skip
        return
    if not one.model.startswith("virtio"):
        yield Finding("NIC-01", one.mac, Status.FAIL, f"the model is {one.model or 'not said'}",
                      "Write <model type='virtio'/>.")  # fmt: skip
    elif attribute(element, "mtu", "size"):
        yield Finding("NIC-01", one.mac, Status.FAIL, "it has <mtu>, with which libvirt looks for"
                      " a kernel's device and does not start it",
                      "Say mtu in the metadata, or --mtu.")  # fmt: skip
    elif one.mode == "client" and not _again(element):
        yield Finding("NIC-01", one.mac, Status.WARN, "QEMU connects, and does not try again: after"
                      " a restart of uswitchd the guest is cut off",
                      "Put <reconnect enabled='yes' timeout='1'/> into its source, or use mode"
                      " 'server'.")  # fmt: skip
    else:
        yield Finding("NIC-01", one.mac, Status.PASS, f"virtio on {one.path}, mode {one.mode}")


def _again(element: Element) -> bool:
    """Whether a QEMU that connects tries until it has succeeded."""
    return attribute(element, "source/reconnect", "enabled") == "yes"


def _port(side: Side, one: Interface, element: Element, switch: Switch) -> Iterator[Finding]:
    port = interfaces.port_at(switch.ports, one.path)
    if port is None:
        yield _no_port(side, one, element, switch)
        return
    name = port["name"]
    if one.mode and port["mode"] != one.mode:
        yield Finding(
            "NIC-02", one.mac, Status.FAIL, f"the domain says mode {one.mode}, port {name} mode"
            f" {port['mode']}: " + ("both listen" if one.mode == "server" else "both connect"),
            f"Make them equal: 'virsh edit', or delete the port and add it with --mode {one.mode}.",
        )  # fmt: skip
    elif (one.queues or 1) > port["queues"]:
        yield Finding("NIC-02", one.mac, Status.FAIL, f"the domain wants {one.queues} queue pairs,"
                      f" port {name} has {port['queues']}",
                      f"uswitchctl port set {name} --queues {one.queues}")  # fmt: skip
    else:
        yield Finding("NIC-02", one.mac, Status.PASS, f"port {name}, mode {port['mode']}")
    if not port["admin_up"]:
        yield Finding("NIC-03", one.mac, Status.WARN, f"port {name} is cut off",
                      f"uswitchctl port set {name} --up")  # fmt: skip
    elif port["segment"] is None and not port["trunk"]:
        yield Finding("NIC-03", one.mac, Status.FAIL, f"port {name} is in no segment",
                      f"uswitchctl port set {name} --segment SEGMENT")  # fmt: skip
    else:
        where = port["segment"] or "tagged frames only"
        yield Finding("NIC-03", one.mac, Status.PASS, f"segment {where}")


def _no_port(side: Side, one: Interface, element: Element, switch: Switch) -> Finding:
    if not below(one.path, switch.directory):
        return Finding("NIC-02", one.mac, Status.WARN, f"{one.path} is not below"
                       f" {switch.directory}: not this switch's",
                       "If it should be, change the path.")  # fmt: skip
    if side.which is Affect.CONFIG:
        waits = one.mode == "server" or _again(element)
        end = "waits until there is one" if waits else "fails"
        return Finding("NIC-02", one.mac, Status.WARN, f"no port has {one.path}: without the hook"
                       f" a start {end}", "Install the hook, or add the port: uswitchctl"
                       f" port add {port_name(side.domain, one.mac)} --path {one.path}"
                       f" --mode {one.mode}")  # fmt: skip
    return Finding("NIC-02", one.mac, Status.FAIL, f"no port has {one.path}",
                   f"uswitchctl port add {port_name(side.domain, one.mac)} --path {one.path}"
                   f" --mode {one.mode}")  # fmt: skip


def _link(one: Interface, port: Json, switch: Switch, obstacle: Callable[[str, Identity], str],
          listening: Callable[[str], bool | None]) -> Finding:  # fmt: skip
    link, reason = port["link"], port["reason"]
    said = f"link {link}" + (f": {reason}" if reason else "")
    if link == "up" or (link == "down" and not port["admin_up"]):
        return Finding("NIC-04", one.mac, Status.PASS, f"link {link}")
    if link == "negotiating":
        return Finding("NIC-04", one.mac, Status.WARN, "the guest's driver is not ready yet",
                       "Wait until it is up; has it a virtio-net driver?")  # fmt: skip
    if link == "broken":
        return Finding("NIC-04", one.mac, Status.FAIL, said, "Restart the guest, or its driver.")
    return _unreached(one, port["path"], said, switch, obstacle, listening)


def _unreached(one: Interface, path: str, said: str, switch: Switch,
               obstacle: Callable[[str, Identity], str],
               listening: Callable[[str], bool | None]) -> Finding:  # fmt: skip
    """The guest runs, and its port waits; ``path``: of the port."""
    if one.mode == "client":
        if listening(path) is False:
            return Finding("NIC-04", one.mac, Status.FAIL, f"nobody listens on {path}", DOCTOR)
        return Finding("NIC-04", one.mac, Status.FAIL, f"{said}; QEMU does not connect",
                       "May QEMU write to the socket? " + DOCTOR)  # fmt: skip
    why = ""
    if switch.who is not None:
        try:
            why = obstacle(path, switch.who)
        except PermissionError as error:
            why = f"{error.filename} may not be looked at"
    return Finding("NIC-04", one.mac, Status.FAIL, f"{said}; {why}" if why else said,
                   "uswitchd's user must be in the socket's group. " + DOCTOR)  # fmt: skip


def merged(findings: list[Finding]) -> list[Finding]:
    """Both descriptions' findings, each once, those of an interface together."""
    order = {"": 0}
    for one in findings:
        order.setdefault(one.about, len(order))
    unique = list(dict.fromkeys(findings))
    return sorted(unique, key=lambda one: (order[one.about], one.check))

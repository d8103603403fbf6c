# SPDX-License-Identifier: Apache-2.0
"""``uswitchctl domain detach``: an interface, its metadata, and then its port.

The word that names the interface is looked up once; from then on it is its MAC
address, for aliases and devices stand in the running guest's description only.

A guest that runs lets go of a device when its own driver has: libvirt asks and
returns.  The port goes when no description of the domain has the interface any
more, for a QEMU that still has it would lose its network.  A command that was
given up in between is repeated: what the interface left behind goes then.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from vif_uswitch.client import Client
from vif_uswitch.domain import device, entries, interfaces
from vif_uswitch.domain.affect import Affect, State, chosen, each, everything
from vif_uswitch.domain.connect import Guest
from vif_uswitch.exceptions import Conflict, NotFound, TimedOut
from vif_uswitch.hooks.domain_xml import (
    VHOST_USER,
    DomainXml,
    Interface,
    parse_domain,
    port_name,
)
from vif_uswitch.hooks.plan import mine, real

Json = dict[str, Any]
PAUSE_S = 0.1  # between two looks


@dataclass(frozen=True, slots=True)
class Plan:
    """``affect``: the descriptions that have the interface and lose it; ``last``: no other has.

    Without any, the interface is gone already, and left an entry or a port behind.
    """

    affect: Affect
    interface: Interface
    last: bool


def plan(state: State, domains: dict[Affect, DomainXml], asked: Affect, word: str,
         ports: Sequence[Json]) -> Plan:  # fmt: skip
    """``domains``: all descriptions.  Raises NotFound if none of those asked for has it."""
    for domain in domains.values():
        device.must_be_free(domain)
    try:
        mac = _mac(domains, asked, word)
        found = _with(mac, {which: domains[which] for which in each(asked)})
        if not found:
            interfaces.find(domains[each(asked)[0]], mac)  # raises, with what there is
    except NotFound:
        left = _left_behind(domains, asked, word, ports)
        if left is None:
            raise
        return Plan(Affect(0), Interface(left), not _with(left, domains))
    one = next(iter(found.values()))
    for other in found.values():
        if other.type != VHOST_USER:
            raise Conflict("interface", mac, f"of domain {state.name} is of type {other.type}",
                           "Use 'virsh detach-interface'.")  # fmt: skip
    affect = Affect(0)
    for which in found:
        affect |= which
    rest = {which: domain for which, domain in domains.items() if not which & affect}
    return Plan(affect, one, not _with(mac, rest))


def _mac(domains: dict[Affect, DomainXml], asked: Affect, word: str) -> str:
    """The address of the interface that is meant, by any description; first those asked for."""
    missing: NotFound | None = None
    for which in sorted(domains, key=lambda one: not one & asked):
        try:
            return interfaces.find(domains[which], word).mac
        except NotFound as error:
            missing = missing or error
    assert missing is not None
    raise missing


def _with(mac: str, domains: dict[Affect, DomainXml]) -> dict[Affect, Interface]:
    """That interface in each description that has it; Conflict where two have its address."""
    return {which: interfaces.find(domain, mac) for which, domain in domains.items()
            if any(one.mac == mac for one in domain.interfaces)}  # fmt: skip


def _left_behind(domains: dict[Affect, DomainXml], asked: Affect, word: str,
                 ports: Sequence[Json]) -> str | None:  # fmt: skip
    """The address of an interface that is gone, if it left an entry or a port; else None."""
    domain = next(iter(domains.values()))
    names = {mac: {port_name(domain, mac)} for which in each(asked) for mac in domains[which].ports}
    for port in mine(domain, ports):
        mac = port["external_ids"].get("mac", "")
        if mac and not _with(mac, domains):
            names.setdefault(mac, {port_name(domain, mac)}).add(port["name"])
    meant = {word, word.lower()}
    return next((mac for mac, own in names.items() if meant & {mac, *own}), None)


def detach(guest: Guest, client: Client, word: str, *, live: bool, config: bool, wait_s: float,
           say: Callable[[str], None]) -> tuple[Plan, str | None]:  # fmt: skip
    """What was done, and the port that was deleted with it."""
    state = guest.state()
    asked = chosen(state, live, config)
    domains = {which: parse_domain(guest.xml(which)) for which in each(everything(state))}
    made = plan(state, domains, asked, word, client.port_list())
    one = made.interface
    if made.affect:
        # An address or alias of one description would not be found in the other.
        bare = Interface(one.mac, path=one.path, mode=one.mode, model=one.model or "virtio")
        guest.detach(device.device(bare), made.affect)
    if made.affect & Affect.LIVE:
        _gone(guest, one.mac, wait_s)
    for which in each(asked):
        _forget(guest, one.mac, which, say)
    if not made.last:
        return made, None
    deleted = None
    for port in _ports_of(next(iter(domains.values())), one, client.port_list(), say):
        if client.port_delete(port):
            deleted = port
    return made, deleted


def _ports_of(domain: DomainXml, one: Interface, ports: Sequence[Json],
              say: Callable[[str], None]) -> list[str]:  # fmt: skip
    """Names of the ports that go with the interface: those that libvirt's side made for it.

    A port that has its socket may be another domain's (whose XML was copied),
    or was made by hand.
    """
    own = {port["name"] for port in mine(domain, ports)}
    found = []
    for port in ports:
        name = port["name"]
        at_its_socket = bool(one.path) and port["path"] == real(one.path)
        its = name == port_name(domain, one.mac)
        if its or (name in own and (at_its_socket or port["external_ids"].get("mac") == one.mac)):
            found.append(name)
        elif at_its_socket:
            say(f"port {name} is not libvirt's of this domain: it stays")
    return found


def _gone(guest: Guest, mac: str, wait_s: float) -> None:
    deadline = time.monotonic() + wait_s
    while any(one.mac == mac for one in parse_domain(guest.xml(Affect.LIVE)).interfaces):
        if time.monotonic() >= deadline:
            raise TimedOut(
                "interface", mac, f"the guest {guest.name} has not let go of it for {wait_s:g} s",
                "Its port stays. Is its operating system up? Then repeat the command, with this"
                " address.",
            )  # fmt: skip
        time.sleep(PAUSE_S)


def _forget(guest: Guest, mac: str, which: Affect, say: Callable[[str], None]) -> None:
    """Its entry, where the interface is gone.

    Metadata that cannot be read are left: they are no reason to keep an interface.
    """
    domain = parse_domain(guest.xml(which))
    if any(one.mac == mac for one in domain.interfaces):
        return
    if domain.refused:
        say(f"the metadata of {guest.name} stay as they are: {next(iter(domain.refused.values()))}")
        return
    entries.put(guest, which, mac, None)

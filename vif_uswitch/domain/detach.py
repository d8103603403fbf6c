# SPDX-License-Identifier: Apache-2.0
"""``uswitchctl domain detach``: an interface, its metadata, and then its port.

A guest that runs lets go of a device when its own driver has: libvirt asks and
returns.  The port goes when no description of the domain has the interface any
more, for a QEMU that still has it would lose its network.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from vif_uswitch.client import Client
from vif_uswitch.domain import device, interfaces, settings
from vif_uswitch.domain.affect import Affect, State, chosen, each, everything
from vif_uswitch.domain.connect import Guest
from vif_uswitch.exceptions import Conflict, NotFound, TimedOut
from vif_uswitch.hooks.domain_xml import VHOST_USER, DomainXml, Interface, parse_domain

PAUSE_S = 0.1  # between two looks


@dataclass(frozen=True, slots=True)
class Plan:
    """``affect``: the descriptions that have the interface and lose it; ``last``: no other has."""

    affect: Affect
    interface: Interface
    last: bool


def plan(state: State, domains: dict[Affect, DomainXml], asked: Affect, word: str) -> Plan:
    """``domains``: all descriptions.  Raises NotFound if none of those asked for has it."""
    found, missing = {}, None
    for which in each(asked):
        try:
            found[which] = interfaces.find(domains[which], word)
        except NotFound as error:
            missing = error
    if missing is not None and not found:
        raise missing
    for domain in domains.values():
        device.must_be_free(domain)
    one = next(iter(found.values()))
    if one.type != VHOST_USER:
        raise Conflict("interface", one.mac, f"of domain {state.name} is of type {one.type}",
                       "Use 'virsh detach-interface'.")  # fmt: skip
    affect = Affect(0)
    for which, other in found.items():
        if other.mac == one.mac:
            affect |= which
    rest = [domain for which, domain in domains.items() if not which & affect]
    last = all(other.mac != one.mac for domain in rest for other in domain.interfaces)
    return Plan(affect, one, last)


def detach(guest: Guest, client: Client, word: str, *, live: bool, config: bool, wait_s: float,
           say: Callable[[str], None]) -> tuple[Plan, str | None]:  # fmt: skip
    """What was done, and the port that was deleted with it."""
    state = guest.state()
    asked = chosen(state, live, config)
    domains = {which: parse_domain(guest.xml(which)) for which in each(everything(state))}
    made = plan(state, domains, asked, word)
    # An address or alias of one description would not be found in the other.
    bare = made.interface._replace(queues=None, model=made.interface.model or "virtio")
    guest.detach(device.device(bare), made.affect)
    if made.affect & Affect.LIVE:
        _gone(guest, made.interface.mac, wait_s)
    for which in each(asked):
        _forget(guest, domains[which], made.interface.mac, which, say)
    if not made.last:
        return made, None
    port = interfaces.by_path(client.port_list()).get(made.interface.path)
    if port is None or not client.port_delete(port["name"]):
        return made, None
    return made, str(port["name"])


def _gone(guest: Guest, mac: str, wait_s: float) -> None:
    deadline = time.monotonic() + wait_s
    while any(one.mac == mac for one in parse_domain(guest.xml(Affect.LIVE)).interfaces):
        if time.monotonic() >= deadline:
            raise TimedOut(
                "interface", mac, f"the guest {guest.name} has not let go of it for {wait_s:g} s",
                "Its port stays. Is its operating system up? Then repeat the command.",
            )  # fmt: skip
        time.sleep(PAUSE_S)


def _forget(guest: Guest, domain: DomainXml, mac: str, which: Affect,
            say: Callable[[str], None]) -> None:  # fmt: skip
    """Metadata that cannot be read are left: they are no reason to keep an interface."""
    if domain.refused:
        say(f"the metadata of {guest.name} stay as they are: {next(iter(domain.refused.values()))}")
        return
    if mac in domain.ports:
        rest = {other: entry for other, entry in domain.ports.items() if other != mac}
        guest.set_metadata(settings.ports_text(rest), which)

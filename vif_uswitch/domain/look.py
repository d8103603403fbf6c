# SPDX-License-Identifier: Apache-2.0
"""What ``list``, ``check`` and ``watch`` read: domains from libvirt, ports from uswitchd."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from vif_uswitch.client import Client, is_own
from vif_uswitch.domain import check, interfaces, reach, tree
from vif_uswitch.domain.affect import Affect, each, everything
from vif_uswitch.domain.connect import Guest, Hypervisor
from vif_uswitch.exceptions import Busy, NotFound, USwitchError
from vif_uswitch.hooks import settings
from vif_uswitch.hooks.domain_xml import HostSettings, parse_domain

Json = dict[str, Any]


def guests(hypervisor: Hypervisor, names: Iterable[str], *, strict: bool = True) -> list[Guest]:
    """Those that are named, or all; ``strict``: raises NotFound if one that is named is not there.

    What else keeps libvirt from telling is raised in any case.
    """
    wanted = list(names)
    if not wanted:
        return hypervisor.guests()
    found = []
    for name in wanted:
        try:
            found.append(hypervisor.guest(name))
        except NotFound:
            if strict:
                raise
    return found


def rows(hypervisor: Hypervisor, client: Client, names: Iterable[str], *,
         strict: bool = True) -> list[Json]:  # fmt: skip
    """Interfaces of running guests as they are, of others as they will be."""
    ports = interfaces.by_path(client.port_list())
    found: list[Json] = []
    chosen = list(names)
    for guest in guests(hypervisor, chosen, strict=strict):
        try:
            state = guest.state()
            which = Affect.LIVE if state.active else Affect.CONFIG
            word = "running" if state.active else "shut off"
            domain = parse_domain(guest.xml(which, secrets=False))
        except Busy:
            domain, word = interfaces.of_ports(guest.name, guest.uuid, ports), "stuck"
        except NotFound:
            if chosen and strict:
                raise
            continue  # it went while we looked at others
        found += [{**row, "state": word} for row in interfaces.rows(domain, ports)]
    return found


def switch(client: Client) -> check.Switch | USwitchError:
    try:
        daemon = client.show()["daemon"]
        ports = interfaces.by_path(client.port_list())
    except USwitchError as error:
        return error
    return check.Switch(daemon["vhost_socket_dir"], ports, reach.who_is(daemon["pid"]))


def findings(guest: Guest, client: Client) -> list[check.Finding]:
    known = switch(client)
    found: list[check.Finding] = []
    for which in each(everything(guest.state())):
        try:
            text = guest.xml(which, secrets=False)
        except Busy as error:
            return check.stuck(guest.name, guest.uuid, known, error)
        side = check.Side(which, parse_domain(text), tuple(tree.interfaces(tree.parse(text))))
        found += check.check(side, known)
    return check.merged(found)


def host_settings(client: Client) -> HostSettings:
    """What holds for all domains here: the hook reads the same file.

    Its directory is that of the host's switch: a user's own has another one.
    """
    found = settings.load()
    if not is_own(client.path):
        return found
    return HostSettings(control_socket=found.control_socket, default_segment=found.default_segment,
                        deadline_s=found.deadline_s)  # fmt: skip

# SPDX-License-Identifier: Apache-2.0
"""``uswitchctl domain attach``: a new interface, from the port to the metadata.

The order is what a crash between two steps leaves in the least harmful state.
The port comes first: QEMU, where it listens, stands still until the switch
connects, and so would libvirt.  The metadata come before the device: without a
device they say nothing, but a device without them would come up in no segment
at the next start.  The device is last, and nothing after it can fail.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from vif_uswitch.client import Client
from vif_uswitch.domain import device, interfaces, settings, tree
from vif_uswitch.domain.affect import Affect, State, chosen, each
from vif_uswitch.domain.connect import Guest, patiently
from vif_uswitch.domain.steps import Steps
from vif_uswitch.exceptions import TimedOut
from vif_uswitch.hooks.domain_xml import (
    DomainXml,
    HostSettings,
    Interface,
    parse_domain,
    settings_to_port,
)

Json = dict[str, Any]
PATIENCE_S = 30.0  # for a hot-plug that the guest's QEMU has to answer


@dataclass(frozen=True, slots=True)
class Wish:
    """What the user asked for.  ``changes``: members of the API's PortChanges."""

    changes: Json
    mac: str | None = None  # None: a new one
    mode: str = "server"
    queues: int | None = None
    live: bool = False
    config: bool = False
    create_segments: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What is going to be done.  ``notes``: what the user should know."""

    affect: Affect
    interface: Interface
    port: Json
    device: str
    metadata: dict[Affect, str | None]
    metadata_before: dict[Affect, str | None]
    memory: str | None  # the configuration with shared memory, if it has to be changed
    notes: tuple[str, ...]


def plan(state: State, xml: dict[Affect, str], wish: Wish, defaults: HostSettings,
         directory: str, taken: set[str], uri: str) -> Plan:  # fmt: skip
    """``xml``: the descriptions that change; ``taken``: addresses that other ports have."""
    domains = {which: parse_domain(text) for which, text in xml.items()}
    domain = next(iter(domains.values()))
    mac = _mac(wish, domains, taken)
    for which, one in domains.items():
        device.must_be_free(one)
        device.must_lack(one, mac)
        if which is Affect.LIVE:
            device.must_share(one)
    wanted = settings.from_changes(mac, wish.changes)
    interface = Interface(mac, device.socket_path(directory, domain, mac), wish.mode,
                          model="virtio", queues=wish.queues)  # fmt: skip
    before = {which: settings.all_settings(one) for which, one in domains.items()}
    memory, notes = None, []
    if Affect.CONFIG in domains and not domains[Affect.CONFIG].shared_memory:
        root = tree.parse(xml[Affect.CONFIG])
        tree.share_memory(root)
        memory = tree.written(root)
        notes.append(f"domain {state.name} shares its memory from its next start on")
    after = {which: {**old, mac: wanted} for which, old in before.items()}
    port = settings_to_port(domain, interface, wanted, defaults, uri)
    if port["segment"] is None and not port["trunk"]:
        notes.append("the port is in no segment: it neither sends nor receives; name one with"
                     f" 'uswitchctl port set {port['name']} --segment SEGMENT'")  # fmt: skip
    return Plan(
        affect=_sum(domains), interface=interface, port=port, device=device.device(interface),
        metadata={which: settings.ports_text(new) for which, new in after.items()},
        metadata_before={which: settings.ports_text(old) for which, old in before.items()},
        memory=memory, notes=tuple(notes),
    )  # fmt: skip


def _mac(wish: Wish, domains: dict[Affect, DomainXml], taken: set[str]) -> str:
    if wish.mac is not None:
        return interfaces.station(wish.mac)
    own = {one.mac for domain in domains.values() for one in domain.interfaces}
    return interfaces.new_mac(taken | own)


def _sum(parts: dict[Affect, Any]) -> Affect:
    total = Affect(0)
    for part in parts:
        total |= part
    return total


def attach(guest: Guest, client: Client, wish: Wish, defaults: HostSettings, uri: str,
           say: Callable[[str], None]) -> Plan:  # fmt: skip
    """Raises what went wrong, after everything was taken back; ``say`` gets what was."""
    state = guest.state()
    affect = chosen(state, wish.live, wish.config)
    xml = {which: guest.xml(which) for which in each(affect)}
    directory = defaults.vhost_socket_dir or client.show()["daemon"]["vhost_socket_dir"]
    taken = {mac for port in client.port_list() for mac in _macs(port)}
    made = plan(state, xml, wish, defaults, directory, taken, uri)
    name = made.port["name"]
    with Steps(say) as steps:
        created = client.port_ensure(made.port, create_segments=wish.create_segments)["created"]
        steps.note(f"port {name}", partial(client.port_delete, name) if created else None)
        if made.memory is not None:
            memory, before = made.memory, xml[Affect.CONFIG]
            steps.do("shared memory of the configuration", lambda: guest.define(memory),
                     lambda: guest.define(before))  # fmt: skip
        for which in each(affect):
            _metadata(steps, guest, made, which)
        _device(steps, guest, client, made, say)
    return made


def _macs(port: Json) -> list[str]:
    """Addresses that a port pins, and the one of the interface that it belongs to."""
    own = port["external_ids"].get("mac")
    return [*port["macs"], *([own] if own else [])]


def _metadata(steps: Steps, guest: Guest, made: Plan, which: Affect) -> None:
    steps.do("metadata", lambda: guest.set_metadata(made.metadata[which], which),
             lambda: guest.set_metadata(made.metadata_before[which], which))  # fmt: skip


def _device(steps: Steps, guest: Guest, client: Client, made: Plan,
            say: Callable[[str], None]) -> None:  # fmt: skip
    name = made.port["name"]
    try:
        patiently("domain", guest.name, lambda: guest.attach(made.device, made.affect),
                  PATIENCE_S, "")  # fmt: skip
    except KeyboardInterrupt:
        steps.keep()  # taking the port away would leave QEMU waiting for ever
        say(f"interrupted: port {name} stays, for libvirt is still at it")
        raise
    except TimedOut:
        steps.keep()
        port = client.port_show(name)["port"]
        who = "uswitchd" if made.interface.mode == "server" else "QEMU's user"
        raise TimedOut(
            "domain", guest.name, f"QEMU has waited {PATIENCE_S:g} s for its switch: port {name}"
            f" is {port['link']}" + (f" ({port['reason']})" if port["reason"] else ""),
            f"Let {who} reach {made.interface.path} (see 'uswitchctl domain check"
            f" {guest.name}'): the guest goes on by itself, with the interface.",
        ) from None  # fmt: skip

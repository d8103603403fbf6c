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
from vif_uswitch.domain import device, entries, interfaces, ports, settings, tree
from vif_uswitch.domain.affect import Affect, State, chosen, each, everything
from vif_uswitch.domain.connect import Guest, patiently
from vif_uswitch.domain.steps import Steps
from vif_uswitch.exceptions import TimedOut
from vif_uswitch.hooks.domain_xml import (
    DomainXml,
    HostSettings,
    Interface,
    PortSettings,
    parse_domain,
    settings_to_port,
)
from vif_uswitch.hooks.plan import check_reachable

Json = dict[str, Any]
# For a hot-plug that the guest's QEMU has to answer.  More than the 30 s that libvirt waits for
# another job of the domain: its answer, who holds it, says more than ours.
PATIENCE_S = 40.0


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
    entry: PortSettings  # of the metadata
    share: bool  # whether the configuration's memory has to be made shared
    notes: tuple[str, ...]


def plan(state: State, xml: dict[Affect, str], affect: Affect, wish: Wish, defaults: HostSettings,
         directory: str, taken: set[str], uri: str) -> Plan:  # fmt: skip
    """``xml``: all descriptions; ``affect``: which change; ``taken``: addresses of other ports."""
    domains = {which: parse_domain(text) for which, text in xml.items()}
    domain = next(iter(domains.values()))
    mac = _mac(wish, domains, taken)
    for which, one in domains.items():
        device.must_be_free(one)
        device.must_lack(one, mac)
        if not which & affect:
            continue
        settings.all_settings(one)  # raises for metadata that cannot be written anew
        if which is Affect.LIVE:
            device.must_share(one)
    wanted = settings.from_changes(mac, wish.changes)
    interface = Interface(mac, device.socket_path(directory, domain, mac), wish.mode,
                          model="virtio", queues=wish.queues)  # fmt: skip
    share = bool(affect & Affect.CONFIG) and not domains[Affect.CONFIG].shared_memory
    notes = [f"domain {state.name} shares its memory from its next start on"] if share else []
    port = settings_to_port(domain, interface, wanted, defaults, uri)
    if port["segment"] is None and not port["trunk"]:
        notes.append("the port is in no segment: it neither sends nor receives; name one with"
                     f" 'uswitchctl port set {port['name']} --segment SEGMENT'")  # fmt: skip
    return Plan(
        affect=affect, interface=interface, port=port, device=device.device(interface),
        entry=wanted, share=share, notes=tuple(notes),
    )  # fmt: skip


def _mac(wish: Wish, domains: dict[Affect, DomainXml], taken: set[str]) -> str:
    if wish.mac is not None:
        return interfaces.station(wish.mac)
    own = {one.mac for domain in domains.values() for one in domain.interfaces}
    return interfaces.new_mac(taken | own)


def attach(guest: Guest, client: Client, wish: Wish, defaults: HostSettings, uri: str,
           say: Callable[[str], None]) -> Plan:  # fmt: skip
    """Raises what went wrong, after everything was taken back; ``say`` gets what was."""
    state = guest.state()
    affect = chosen(state, wish.live, wish.config)
    xml = {which: guest.xml(which) for which in each(everything(state))}
    directory = defaults.vhost_socket_dir or client.show()["daemon"]["vhost_socket_dir"]
    taken = {mac for port in client.port_list() for mac in _macs(port)}
    made = plan(state, xml, affect, wish, defaults, directory, taken, uri)
    with Steps(say) as steps:
        port = ports.ensure(steps, client, made.port, create_segments=wish.create_segments)
        if affect & Affect.LIVE:
            check_reachable(port)  # or the guest would stand still, with all its QEMU
        if made.share:
            restore = partial(tree.restore_memory, before=tree.parse(xml[Affect.CONFIG]))
            steps.do("shared memory of the configuration",
                     partial(_redefine, guest, tree.share_memory),
                     partial(_redefine, guest, restore))  # fmt: skip
        for which in each(affect):
            _metadata(steps, guest, made, which)
        _device(steps, guest, client, made, say)
    return made


def _macs(port: Json) -> list[str]:
    """Addresses that a port pins, and the one of the interface that it belongs to."""
    own = port["external_ids"].get("mac")
    return [*port["macs"], *([own] if own else [])]


def _redefine(guest: Guest, change: Callable[[tree.Element], None]) -> None:
    """Of the configuration as it is now: what others have changed since stays."""
    root = tree.parse(guest.xml(Affect.CONFIG))
    change(root)
    guest.define(tree.written(root))


def _metadata(steps: Steps, guest: Guest, made: Plan, which: Affect) -> None:
    mac = made.interface.mac
    before = entries.put(guest, which, mac, made.entry)
    steps.note("metadata", partial(entries.put, guest, which, mac, before))


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

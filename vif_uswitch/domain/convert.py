# SPDX-License-Identifier: Apache-2.0
"""``uswitchctl domain convert``: interfaces on a bridge or network of libvirt's become ours.

Only the configuration changes: a running guest keeps the devices it has until
it is shut down and started again.  The plan is a function of XML; what it
would change is shown before anything is.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from vif_uswitch.client import Client
from vif_uswitch.domain import device, interfaces, ports, settings, tree
from vif_uswitch.domain.affect import Affect, State
from vif_uswitch.domain.connect import Guest
from vif_uswitch.domain.reshape import Reshaped, reshape
from vif_uswitch.domain.steps import Steps
from vif_uswitch.exceptions import Conflict, InvalidInput
from vif_uswitch.hooks.domain_xml import (
    VHOST_USER,
    DomainXml,
    HostSettings,
    Interface,
    parse_domain,
    settings_to_port,
)

Json = dict[str, Any]
TYPES = ("bridge", "network")  # without being named; others have to be


@dataclass(frozen=True, slots=True)
class Wish:
    """``words``: which interfaces; none: all on a bridge or network.

    ``to_virtio``: another model may become virtio.  ``drop``: what a
    vhost-user interface cannot have may go.
    """

    words: Sequence[str]
    changes: Json
    mode: str = "server"
    to_virtio: bool = False
    drop: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """``before`` and ``after``: the configuration, written alike, for ``diff()``."""

    domain: str
    before: str
    after: str
    original: str  # as libvirt wrote it
    ports: tuple[Json, ...]
    notes: tuple[str, ...]

    def diff(self) -> str:
        lines = difflib.unified_diff(
            self.before.splitlines(), self.after.splitlines(), f"{self.domain} (now)",
            f"{self.domain} (converted)", lineterm="",
        )  # fmt: skip
        return "\n".join(lines)


def plan(state: State, xml: str, wish: Wish, defaults: HostSettings, directory: str,
         uri: str) -> Plan:  # fmt: skip
    """``xml``: the domain's configuration."""
    domain = parse_domain(xml)
    device.must_be_free(domain)
    entries = settings.all_settings(domain)
    root = tree.parse(xml)
    before = tree.written(root)
    elements = tree.interfaces(root)
    wanted, notes = [], []
    for one in _chosen(domain, wish.words):
        if not one.mac:
            raise InvalidInput("interface", f"number {one.number}", "has no MAC address")
        path = device.socket_path(directory, domain, one.mac)
        done = reshape(elements[one.number], path, wish.mode)
        _agreed(domain.name, done, wish)
        entry = settings.from_changes(one.mac, wish.changes)
        if entry.mtu is None and done.mtu is not None:
            entry = entry._replace(mtu=done.mtu)
        entries[one.mac] = entry
        new = Interface(one.mac, path, wish.mode, model="virtio", queues=one.queues)
        port = settings_to_port(domain, new, entry, defaults, uri)
        if port["segment"] is None and not port["trunk"]:
            raise InvalidInput(
                "segment", None, f"none is said for interface {one.mac}, now on {one.source}",
                "Use --segment, or default_segment in libvirt.conf.",
            )  # fmt: skip
        wanted.append(port)
    settings.put(root, entries)
    if not domain.shared_memory:
        tree.share_memory(root)
    if state.active:
        notes.append(f"the running guest keeps its old interfaces until {domain.name} is shut down"
                     " and started again; a reboot from inside is not enough")  # fmt: skip
    return Plan(domain.name, before, tree.written(root), xml, tuple(wanted), tuple(notes))


def _chosen(domain: DomainXml, words: Sequence[str]) -> list[Interface]:
    if not words:
        found = [one for one in domain.interfaces if one.type in TYPES]
        if not found:
            raise Conflict("domain", domain.name, "has no interface on a bridge or network",
                           "Name the one to convert: see 'uswitchctl domain list'.")  # fmt: skip
        return found
    chosen: dict[int, Interface] = {}
    for word in words:
        one = interfaces.find(domain, word)
        if one.type == VHOST_USER:
            raise Conflict("interface", one.mac, "is a vhost-user interface already",
                           "See 'uswitchctl domain check'.")  # fmt: skip
        if one.type == "hostdev":
            raise Conflict("interface", one.mac, "is a device of the host's, given to the guest",
                           "Detach it, and attach one of ours.")  # fmt: skip
        chosen[one.number] = one
    return list(chosen.values())


def _agreed(domain: str, done: Reshaped, wish: Wish) -> None:
    if done.lost and not wish.drop:
        raise Conflict(
            "interface", done.mac, f"of {domain} has what a vhost-user interface cannot have: "
            + ", ".join(done.lost),
            "Say what of it the port shall do (--allow, --max-kbps, --segment), and --drop.",
        )  # fmt: skip
    if done.model and not wish.to_virtio:
        raise Conflict(
            "interface", done.mac, f"of {domain} is of model {done.model}: ours are virtio, and"
            " the guest needs a driver for it", "If it has one, add --to-virtio.",
        )  # fmt: skip


def prepare(guest: Guest, client: Client, wish: Wish, defaults: HostSettings, uri: str) -> Plan:
    """Looks, and changes nothing."""
    state = guest.state()
    if not state.persistent:
        raise Conflict("domain", guest.name, "is transient: it has no configuration to convert",
                       "Define it first: 'virsh define'.")  # fmt: skip
    directory = defaults.vhost_socket_dir or client.show()["daemon"]["vhost_socket_dir"]
    return plan(state, guest.xml(Affect.CONFIG), wish, defaults, directory, uri)


def carry_out(guest: Guest, client: Client, made: Plan, *, create_segments: bool,
              say: Callable[[str], None]) -> None:  # fmt: skip
    """Ports first: a guest that is started in between finds them.  All the rest is one call."""
    if guest.xml(Affect.CONFIG) != made.original:
        raise Conflict("domain", guest.name, "was changed since the diff was shown",
                       "Repeat the command.")  # fmt: skip
    with Steps(say) as steps:
        for port in made.ports:
            ports.ensure(steps, client, port, create_segments=create_segments)
        guest.define(made.after)

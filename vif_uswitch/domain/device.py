# SPDX-License-Identifier: Apache-2.0
"""The ``<interface type='vhostuser'>`` that libvirt gets, and what must hold before it does."""

from __future__ import annotations

from vif_uswitch.domain import tree
from vif_uswitch.domain.tree import Element
from vif_uswitch.exceptions import Conflict, InvalidInput
from vif_uswitch.hooks.domain_xml import DomainXml, Interface, port_name
from vif_uswitch.places import UNIX_PATH_MAX

RECONNECT_S = "1"


def socket_path(directory: str, domain: DomainXml, mac: str) -> str:
    path = f"{directory.rstrip('/')}/{port_name(domain, mac)}.sock"
    if len(path.encode()) > UNIX_PATH_MAX:
        raise InvalidInput("socket", path, f"has more than {UNIX_PATH_MAX} bytes",
                           "Choose a shorter vhost_socket_dir.")  # fmt: skip
    return path


def source(path: str, mode: str) -> Element:
    """QEMU that connects (``client``) has to be told to do it again; one that listens must not."""
    inner = []
    if mode == "client":
        inner = [tree.make("reconnect", {"enabled": "yes", "timeout": RECONNECT_S})]
    return tree.make("source", {"type": "unix", "path": path, "mode": mode}, *inner)


def device(one: Interface) -> str:
    """The interface's XML; libvirt gives it its place on the PCI bus."""
    inner = [
        tree.make("mac", {"address": one.mac}),
        source(one.path, one.mode),
        tree.make("model", {"type": one.model}),
    ]
    if one.queues is not None:
        inner.append(tree.make("driver", {"queues": str(one.queues)}))
    return tree.written(tree.make("interface", {"type": "vhostuser"}, *inner))


def must_be_free(domain: DomainXml) -> None:
    """Refuses a domain whose ports are somebody else's to make."""
    if domain.nova:
        raise Conflict("domain", domain.name, "belongs to Nova, which gives it its ports",
                       "Use 'openstack server add port'.")  # fmt: skip


def must_lack(domain: DomainXml, mac: str) -> None:
    if any(one.mac == mac for one in domain.interfaces):
        raise Conflict("MAC address", mac, f"domain {domain.name} has an interface with it",
                       "Choose another one, or leave out --mac.")  # fmt: skip


def must_share(domain: DomainXml) -> None:
    """Of a running guest: its memory was made when it started."""
    if not domain.shared_memory:
        raise Conflict(
            "domain", domain.name, "runs with memory that the switch cannot map",
            "Attach with --config, which lets it share its memory from its next start on.",
        )  # fmt: skip

# SPDX-License-Identifier: Apache-2.0
"""Ports that nobody else plugs: hosts whose nova-compute has no os-vif plugin of ours.

With ``[ml2_uswitch] nova_plug = noop`` Nova plugs nothing, so the agent makes
the ports itself, from what Neutron says about a binding on this host.  Policy
without I/O, as in ``wiring.py``.  The binding itself tells who plugs, so the
agent needs no option for it.

The price is in the documentation: QEMU waits at start until the agent has made
the port, and a plug that fails is seen in the agent's log only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from vif_uswitch.ml2.binding import NOVA_PLUG
from vif_uswitch.ml2.wiring import View

Json = dict[str, Any]
OWNER = "neutron-agent"
PLUG_KEYS = {key for keys in NOVA_PLUG.values() for key in keys}


def plugged_by_agent(port: Mapping[str, Any], host: str) -> bool:
    """Whether Neutron has bound this port here, for nobody but the agent to plug."""
    details = port.get("binding:vif_details") or {}
    return (
        port.get("binding:host_id") == host
        and port.get("binding:vif_type") == "vhostuser"
        and bool(details.get("vhostuser_socket"))
        and not any(details.get(key) for key in PLUG_KEYS)
    )


def spec(port: Mapping[str, Any]) -> Json:
    """For port.ensure: a port in no segment; wiring is the same as for any other."""
    details = port["binding:vif_details"]
    return {
        "name": port["id"],
        "path": details["vhostuser_socket"],
        "mode": details.get("vhostuser_mode") or "server",
        "external_ids": {
            "owner": OWNER,
            "network": port["network_id"],
            **({"instance": port["device_id"]} if port.get("device_id") else {}),
            **({"mac": port["mac_address"]} if port.get("mac_address") else {}),
        },
    }


def missing(ports: Iterable[Mapping[str, Any]], host: str, view: View) -> list[Json]:
    """Ports to make."""
    return [
        spec(port) for port in ports
        if plugged_by_agent(port, host) and port["id"] not in view.ports
    ]  # fmt: skip


def leftover(ports: Iterable[Mapping[str, Any]], host: str, view: View) -> list[str]:
    """Ports that the agent once made and nobody has bound here any more; ``ports``: all bound."""
    bound = {port["id"] for port in ports if plugged_by_agent(port, host)}
    return [name for name in sorted(view.ports) if name not in bound and is_ours(name, view)]


def is_ours(name: str, view: View) -> bool:
    port = view.ports.get(name)
    return port is not None and port.get("external_ids", {}).get("owner") == OWNER

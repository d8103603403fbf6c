# SPDX-License-Identifier: Apache-2.0
"""NET-01..02: the way out: physical networks that Neutron knows, and uplinks that lead there."""

from __future__ import annotations

from typing import Any

from vif_uswitch.cmd import text
from vif_uswitch.cmd.doctor import procs, services
from vif_uswitch.cmd.doctor.model import Check, Finding, Scene, fail, passed, skip, warn
from vif_uswitch.exceptions import shown

AGENT_FILES = ("/etc/neutron/neutron.conf", "/etc/neutron/plugins/ml2/uswitch_agent.ini")
AGENT_DIRECTORIES = ("/etc/neutron/neutron.conf.d", f"/etc/neutron/{services.AGENT}.conf.d")
OPTION = "[uswitch] physical_interface_mappings"
ASK = "See CTL-01."


def mappings(scene: Scene) -> Finding:
    """NET-01"""
    host = scene.host
    uplinks = scene.switch.uplinks()
    if uplinks is None:
        return skip("uswitchd does not say which uplinks it has", ASK)
    if not services.is_here(host, ("nova-compute", services.AGENT)):
        return skip("no OpenStack on this host: physical networks are Neutron's")
    process = procs.find(host, services.AGENT)
    try:
        config = services.configuration(host, process, AGENT_FILES, AGENT_DIRECTORIES) or {}
    except ValueError as error:
        return fail(str(error), "Repair it; the agent cannot read it either.")
    value = config.get("uswitch", {}).get("physical_interface_mappings", "")
    names = {str(uplink["port"].get("name")) for uplink in uplinks}
    if not value:
        return _by_uplinks(uplinks)
    pairs = [part.strip().partition(":") for part in value.split(",") if part.strip()]
    for physnet, colon, name in pairs:
        if not (physnet.strip() and colon and name.strip()):
            return fail(f"{OPTION} has {shown(physnet + colon + name)}, which is not"
                        " PHYSNET:UPLINK", "Correct it and restart the agent.")  # fmt: skip
        if name.strip() not in names:
            have = ", ".join(sorted(names)) or "none"
            return fail(f"{OPTION} maps {shown(physnet.strip())} to {shown(name.strip())}, and"
                        f" uswitchd has no such uplink (it has: {have})",
                        f"uswitchctl uplink add {shown(name.strip())} --pci ADDRESS; or correct the"
                        " mapping.")
    return passed(", ".join(f"{physnet.strip()} by {name.strip()}" for physnet, _, name in pairs))


def _by_uplinks(uplinks: list[dict[str, Any]]) -> Finding:
    """Without the option, an uplink's own physnet counts."""
    named = [(str(one["port"].get("physnet")), str(one["port"].get("name"))) for one in uplinks
             if one["port"].get("physnet")]
    if not named:
        have = f"{text.some(len(uplinks), 'uplink')}, none with a physnet"
        return warn(f"{have}: Neutron binds no port of a flat or VLAN network here",
                    "uswitchctl uplink add NAME --pci ADDRESS --physnet PHYSNET, see"
                    " 'uswitch-uplink list'.")  # fmt: skip
    twice = sorted({physnet for physnet, _ in named
                    if sum(1 for other, _ in named if other == physnet) > 1})
    if twice:
        return fail(f"several uplinks lead to {', '.join(shown(one) for one in twice)}",
                    f"Say which is meant in {OPTION}, or name them apart.")
    return passed(", ".join(f"{shown(physnet)} by {shown(one)}" for physnet, one in sorted(named)))


def links(scene: Scene) -> Finding:
    """NET-02"""
    uplinks = scene.switch.uplinks()
    if uplinks is None:
        return skip("uswitchd does not say which uplinks it has", ASK)
    if not uplinks:
        return skip("no uplink: nothing but guests and TAP devices of this host",
                    "See 'uswitch-uplink list' for adapters that may be given to the switch.")
    bad = []
    off = []
    for uplink in uplinks:
        port = uplink["port"]
        name = shown(str(port.get("name")))
        if not port.get("admin_up", True):
            off.append(name)
        elif port.get("link") != "up":
            bad.append(f"{name} is {shown(str(port.get('link')))}"
                       + (f": {shown(str(port['reason']))}" if port.get("reason") else ""))
        elif (uplink.get("adapter") or {}).get("link_up") is False:
            bad.append(f"{name} has no carrier")
    if bad:
        return fail("; ".join(bad), "uswitchctl uplink show NAME; look at cable and switch port.")
    if off:
        return warn(f"switched off: {', '.join(off)}", "uswitchctl port set NAME --up")
    return passed(f"{text.some(len(uplinks), 'uplink')} up")


CHECKS = (
    Check("NET-01", "physical networks have uplinks", mappings),
    Check("NET-02", "uplinks have a link", links),
)

# SPDX-License-Identifier: Apache-2.0
"""PLUG-01..02, AGENT-01..02: os-vif's plugin where nova-compute looks for it; the Neutron agent.

A service in a container is looked at from outside where we may; else these
are for running inside: ``uswitchctl doctor --only PLUG`` there.
"""

from __future__ import annotations

import time
from typing import Any

from vif_uswitch.cmd import text
from vif_uswitch.cmd.doctor import procs, services
from vif_uswitch.cmd.doctor.model import Check, Finding, Scene, fail, passed, skip, warn
from vif_uswitch.exceptions import shown
from vif_uswitch.version import version

DISTRIBUTION = "vif-uswitch"
# Names under which Nova looks for a plugin of a vhostuser port, and our own.
NAMES = ("contrail_vrouter", "vhostuser_fp", "uswitch")
INSIDE = "In a container: run 'uswitchctl doctor --only PLUG' inside it."
OWNERS = ("nova", "neutron-dhcp", "neutron-l3")
WIRED_WITHIN_S = 30
NAMES_MAX = 3
CONNECTED = ("up", "broken")  # of a port that has, or had, a guest


def plugin(scene: Scene) -> Finding:
    """PLUG-01"""
    found = services.service(scene.host, "nova-compute")
    if found is None:
        return skip("nova-compute is not on this host, or not to be seen from here", INSIDE)
    ours = {name for name, owner in services.entry_points(found, "os_vif") if owner == DISTRIBUTION}
    if not ours:
        return fail(
            f"nova-compute's Python ({found.where}) has no plugin of vif-uswitch: no guest gets a"
            " port", f"{_pip(found)} (built by: pip wheel --no-deps .), then restart nova-compute;"
            " or let the agent make ports ([ml2_uswitch] nova_plug = noop on Neutron's server).",
        )  # fmt: skip
    missing = [name for name in NAMES if name not in ours]
    if missing:
        return fail(f"vif-uswitch in {found.where} does not provide {', '.join(missing)}",
                    "It is too old, or was installed in part: install it again.")
    theirs = services.version_of(found, DISTRIBUTION)
    if theirs != version():
        return warn(f"nova-compute has vif-uswitch {shown(theirs)}, this is {version()}",
                    "Install the same version in both, then restart nova-compute.")
    return passed(f"nova-compute's Python ({found.where}) has the plugin, {theirs}")


def _pip(found: services.Service) -> str:
    more = " --break-system-packages" if found.managed else ""
    return f"{found.where} -m pip install --no-deps{more} vif_uswitch-*.whl"


def clash(scene: Scene) -> Finding:
    """PLUG-02"""
    found = services.service(scene.host, "nova-compute")
    if found is None:
        return skip("nova-compute is not on this host, or not to be seen from here", INSIDE)
    others = [f"{owner} ({name})" for name, owner in services.entry_points(found, "os_vif")
              if name in NAMES and owner != DISTRIBUTION]  # fmt: skip
    if others:
        return fail(f"{', '.join(others)} claims a plugin name of ours: Nova takes either of them",
                    "Uninstall it from nova-compute's Python, or let Neutron use the other name"
                    " ([ml2_uswitch] nova_plug on the server).")  # fmt: skip
    return passed("no other package claims the plugin's names")


def agent(scene: Scene) -> Finding:
    """AGENT-01"""
    process = procs.find(scene.host, services.AGENT)
    if process is not None:
        who = procs.identity(scene.host, process.pid)
        return passed(f"{services.AGENT} runs, pid {process.pid}, as {who.name if who else '?'};"
                      " whether Neutron hears it: openstack network agent list")  # fmt: skip
    if not services.is_here(scene.host, ("nova-compute", services.AGENT)):
        return skip("neither Nova nor the agent is on this host")
    ports = scene.switch.ports() or []
    if not any(_owner(port) in OWNERS for port in ports) and not procs.find(
        scene.host, "nova-compute"
    ):
        return skip(f"{services.AGENT} does not run; nothing here needs it yet",
                    f"systemctl start {services.AGENT}")  # fmt: skip
    return fail(f"{services.AGENT} does not run: nobody wires the guests' ports",
                f"systemctl start {services.AGENT}, and see its log.")


def _owner(port: dict[str, object]) -> str:
    ids = port.get("external_ids")
    return str(ids.get("owner", "")) if isinstance(ids, dict) else ""


def _names(ports: list[dict[str, Any]]) -> str:
    more = f" and {len(ports) - NAMES_MAX} more" if len(ports) > NAMES_MAX else ""
    return ", ".join(shown(port["name"]) for port in ports[:NAMES_MAX]) + more


def wired(scene: Scene) -> Finding:
    """AGENT-02"""
    ports = scene.switch.ports()
    if ports is None:
        return skip("uswitchd does not say", "See CTL-01.")
    ours = [port for port in ports if _owner(port) in OWNERS]
    now_us = time.time() * 1e6
    late = [
        port for port in ours
        if port.get("segment") is None and not port.get("trunk") and port.get("admin_up")
        and now_us - float(port.get("created_us") or 0) > WIRED_WITHIN_S * 1e6
    ]
    unwired = [port for port in late
               if port.get("link") in CONNECTED or _owner(port) != "nova"]
    if unwired:
        return fail(f"in no segment {WIRED_WITHIN_S} s after they were plugged: {_names(unwired)}",
                    f"{services.AGENT} should have wired them: see its log, and whether Neutron"
                    " bound them: openstack port show PORT -c binding_vif_type -c status")
    if late:  # Neutron wires the destination of a live migration when the guest has arrived
        return warn(f"waits for its guest (live migration?), in no segment: {_names(late)}",
                    "If none is on its way here: see the guest's state, and the agent's log.")
    if not ours:
        return skip("no port of Nova's or Neutron's here")
    return passed(f"{text.some(len(ours), 'port')} of Nova and Neutron, all wired or just plugged")


CHECKS = (
    Check("PLUG-01", "nova-compute has the os-vif plugin", plugin),
    Check("PLUG-02", "nobody else has its names", clash),
    Check("AGENT-01", "the Neutron agent runs", agent),
    Check("AGENT-02", "Nova's and Neutron's ports are wired", wired),
)

# SPDX-License-Identifier: Apache-2.0
"""How a port is bound, and why it cannot be: the mechanism driver's policy.

Knows plain dictionaries only: a segment of ML2, the configurations of an
agent's heartbeat.  ``mech_driver.py`` brings them here and logs the answers.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from vif_uswitch.exceptions import InvalidInput, USwitchError
from vif_uswitch.places import UNIX_PATH_MAX

Json = dict[str, Any]

AGENT_TYPE = "Userspace switch agent"
NETWORK_TYPES = ("flat", "vlan", "local")

NOVA_PLUG: dict[str, Json] = {
    "vrouter": {"vhostuser_vrouter_plug": True},
    "fp": {"vhostuser_fp_plug": True},
    "noop": {},
}
"""Keys in vif_details by which Nova picks the os-vif plugin; with none it plugs nothing."""

# Keys of the heartbeat's configurations; the agent writes them, see manager.py.
SOCKET_DIR = "vhostuser_socket_dir"
MAPPINGS = "interface_mappings"
SWITCH_PROBLEM = "uswitchd_problem"


def socket_path(directory: object, port_id: str) -> str:
    """Where QEMU listens for this port: also uswitchd's default for a port of that name."""
    if not isinstance(directory, str) or not directory.startswith("/"):
        raise InvalidInput(
            "vhostuser_socket_dir", directory, "as the agent reports it, is no absolute path",
            "uswitchd has not answered the agent yet: see the agent's log.",
        )  # fmt: skip
    path = os.path.join(directory, f"{port_id}.sock")
    if len(os.fsencode(path)) > UNIX_PATH_MAX:
        raise InvalidInput(
            "socket path", path,
            f"has {len(os.fsencode(path))} bytes, the kernel takes {UNIX_PATH_MAX}",
            "Make vhost_socket_dir of uswitchd shorter.",
        )  # fmt: skip
    return path


def vhostuser_details(path: str, nova_plug: str) -> Json:
    return {"vhostuser_socket": path, "vhostuser_mode": "server", **NOVA_PLUG[nova_plug]}


def why_no_segment(segment: Mapping[str, Any], configurations: Mapping[str, Any]) -> str:
    """Why the agent's host has no access to this segment; "" if it has."""
    kind = segment.get("network_type")
    if kind not in NETWORK_TYPES:
        return f"network type {kind} is not one of {', '.join(NETWORK_TYPES)}"
    if kind == "vlan" and not _is_vlan(segment.get("segmentation_id")):
        return f"VLAN id {segment.get('segmentation_id')!r} is not in 1..4094"
    if kind == "local":
        return ""
    mappings = configurations.get(MAPPINGS) or {}
    physnet = segment.get("physical_network")
    if physnet not in mappings:
        known = ", ".join(sorted(mappings)) or "none"
        return (
            f"physical network {physnet} has no uplink there (the agent reports: {known}); give"
            " an uplink of the switch this physnet, or set [uswitch] physical_interface_mappings"
        )
    return ""


def why_no_socket(configurations: Mapping[str, Any], port_id: str) -> str:
    """Why an instance's port cannot be bound on the agent's host; "" if it can."""
    problem = configurations.get(SWITCH_PROBLEM)
    if problem:
        return f"uswitchd does not answer the agent: {problem}"
    try:
        socket_path(configurations.get(SOCKET_DIR), port_id)
    except USwitchError as error:
        return str(error)
    return ""


def _is_vlan(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 4094

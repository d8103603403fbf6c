# SPDX-License-Identifier: Apache-2.0
"""Options of both Neutron parts, and what ``oslo-config-generator`` asks for.

Importing this file registers nothing.  Two namespaces, because the two parts
run on different hosts: ``vif_uswitch.ml2`` for neutron-server, and
``vif_uswitch.agent`` for ``neutron-uswitch-agent``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from oslo_config import cfg

from vif_uswitch.client import DEFAULT_SOCKET
from vif_uswitch.exceptions import InvalidInput

SERVER_GROUP = "ml2_uswitch"
AGENT_GROUP = "uswitch"
POLLING_INTERVAL_S = 1
"""Our default of [agent] polling_interval.

A look costs one short call on a local socket; if anything has changed, also a list of
every port, about 900 bytes each.
"""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")

SERVER_OPTS: list[cfg.Opt] = [
    cfg.StrOpt(
        "nova_plug",
        default="vrouter",
        choices=[
            ("vrouter", "Nova calls the os-vif plugin registered as contrail_vrouter."),
            ("fp", "Nova calls the os-vif plugin registered as vhostuser_fp; for hosts on which"
             " another product owns the name contrail_vrouter."),
            ("noop", "Nova calls nothing; neutron-uswitch-agent makes and deletes the ports. For"
             " hosts whose nova-compute cannot have our os-vif plugin."),
        ],
        help="How Nova plugs an instance's port. It decides which key stands in"
        " binding:vif_details, and so counts for ports that are bound from then on.",
    ),
]  # fmt: skip

AGENT_OPTS: list[cfg.Opt] = [
    cfg.StrOpt(
        "control_socket",
        default=DEFAULT_SOCKET,
        help="Control socket of uswitchd. The agent needs nothing else of the host: it runs as any"
        " user that is a member of uswitchd's control_group.",
    ),
    cfg.IntOpt(
        "timeout",
        default=10,
        min=1,
        max=300,
        help="Seconds that a call on the control socket may take.",
    ),
    cfg.StrOpt(
        "vhost_socket_dir",
        default="",
        help="Directory of the vhost-user sockets, as QEMU sees it. Empty: what uswitchd says. To"
        " be given only where the two see the directory under different names.",
    ),
    cfg.ListOpt(
        "physical_interface_mappings",
        default=[],
        help="Comma-separated list of PHYSICAL_NETWORK:UPLINK: which uplink of the switch leads to"
        " which physical network of Neutron. Empty: each uplink's own physnet, see"
        " 'uswitchctl uplink list'.",
    ),
]


def list_server_opts() -> list[tuple[str, list[cfg.Opt]]]:
    return [(SERVER_GROUP, SERVER_OPTS)]


def list_agent_opts() -> list[tuple[str, list[cfg.Opt]]]:
    return [(AGENT_GROUP, AGENT_OPTS)]


def register_server_opts(conf: cfg.ConfigOpts) -> None:
    conf.register_opts(SERVER_OPTS, SERVER_GROUP)


def register_agent_opts(conf: cfg.ConfigOpts) -> None:
    conf.register_opts(AGENT_OPTS, AGENT_GROUP)


def parse_mappings(items: Iterable[str]) -> dict[str, str]:
    """``["physnet1:up0", ...]`` as {physical network: uplink}; either name stands once."""
    found: dict[str, str] = {}
    for item in items:
        physnet, colon, uplink = (part.strip() for part in item.partition(":"))
        if not (colon and physnet and _NAME.fullmatch(uplink)):
            raise InvalidInput(
                "physical_interface_mappings", item, "is not PHYSICAL_NETWORK:UPLINK",
                "Name an uplink that 'uswitchctl uplink list' shows, for example physnet1:up0.",
            )  # fmt: skip
        if physnet in found or uplink in found.values():
            raise InvalidInput(
                "physical_interface_mappings", item, "names a physical network or uplink again",
                "Give each one once: an uplink leads to one physical network.",
            )  # fmt: skip
        found[physnet] = uplink
    return found

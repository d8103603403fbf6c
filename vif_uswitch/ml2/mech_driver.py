# SPDX-License-Identifier: Apache-2.0
"""The ML2 mechanism driver ``uswitch``: binds ports to hosts where our agent lives.

Runs in neutron-server.  Neutron's base class finds the agents of the port's
host, checks that they are alive, and sets the barrier that keeps a port from
ACTIVE until its agent has wired it; what to bind, and why not, is decided in
``binding.py``.

Instances get a vhost-user socket on which QEMU listens; ports of the DHCP and
L3 agents get a TAP device.  ``port_filter`` is False: the switch checks what a
port claims to be (anti-spoofing), but has no rules of security groups yet.
"""

from __future__ import annotations

import time
from typing import Any

from neutron_lib import constants
from neutron_lib.api.definitions import portbindings, qinq, vlantransparent
from neutron_lib.plugins.ml2 import api
from oslo_config import cfg
from oslo_log import log

from vif_uswitch.ml2 import binding, conf
from vif_uswitch.ml2.compat import SimpleAgentMechanismDriverBase

LOG = log.getLogger(__name__)

SAID_S = 10.0
"""The same refusal again within this time is the same attempt to bind."""


class UswitchMechanismDriver(SimpleAgentMechanismDriverBase):
    _explicitly_not_supported_extensions = {vlantransparent.ALIAS, qinq.ALIAS}

    def __init__(self) -> None:
        super().__init__(
            binding.AGENT_TYPE,
            portbindings.VIF_TYPE_VHOST_USER,
            {portbindings.CAP_PORT_FILTER: False},
            supported_vnic_types=[portbindings.VNIC_NORMAL],
        )
        self.nova_plug = "vrouter"
        self._said = "", 0.0

    def initialize(self) -> None:
        super().initialize()
        conf.register_server_opts(cfg.CONF)
        self.nova_plug = cfg.CONF[conf.SERVER_GROUP].nova_plug
        LOG.info("Ports of instances are bound for Nova's plugin '%s'", self.nova_plug)

    # ---- what the base class asks ----

    @property
    def connectivity(self) -> str:
        return str(portbindings.CONNECTIVITY_L2)

    def get_allowed_network_types(self, agent: Any = None) -> tuple[str, ...]:
        return binding.NETWORK_TYPES

    def get_mappings(self, agent: Any) -> dict[str, str]:
        return agent["configurations"].get(binding.MAPPINGS) or {}

    def check_segment_for_agent(self, segment: Any, agent: Any) -> bool:
        """Also answers which hosts have access to a segment, for the scheduler."""
        if agent["agent_type"] != self.agent_type:
            return False
        return not binding.why_no_segment(segment, agent["configurations"])

    # ---- binding ----

    def bind_port(self, context: Any) -> None:
        super().bind_port(context)
        if context.current.get(portbindings.VNIC_TYPE) in (None, *self.supported_vnic_types):
            self._log_refusals(context)

    def try_to_bind_segment_for_agent(self, context: Any, segment: Any, agent: Any) -> bool:
        if self._why_not(context, segment, agent):
            return False
        return bool(super().try_to_bind_segment_for_agent(context, segment, agent))

    def get_vif_type(self, context: Any, agent: Any, segment: Any) -> str:
        if _is_neutrons_own(context):
            return str(portbindings.VIF_TYPE_TAP)
        return str(self.vif_type)

    def get_vif_details(self, context: Any, agent: Any, segment: Any) -> dict[str, Any]:
        if _is_neutrons_own(context):
            return dict(self.vif_details)
        directory = agent["configurations"].get(binding.SOCKET_DIR)
        path = binding.socket_path(directory, context.current["id"])
        return {**self.vif_details, **binding.vhostuser_details(path, self.nova_plug)}

    # ---- reasons ----

    def _why_not(self, context: Any, segment: Any, agent: Any) -> str:
        configurations = agent["configurations"]
        reason = ""
        if not _is_neutrons_own(context):
            reason = binding.why_no_socket(configurations, context.current["id"])
        return reason or binding.why_no_segment(segment, configurations)

    def _log_refusals(self, context: Any) -> None:
        """One line that says why this driver did not bind the port, if it did not."""
        port, host = context.current["id"], context.host
        agents = context.host_agents(self.agent_type)
        if not agents:
            # Another driver may be at home there: no warning.
            LOG.info("Port %s is not bound on %s: no %s has ever reported from there",
                     port, host, self.agent_type)  # fmt: skip
            return
        reasons = []
        for agent in agents:
            if not agent["alive"]:
                reasons.append(
                    f"its {self.agent_type} is dead, last heard of at"
                    f" {agent.get('heartbeat_timestamp')}"
                )
                continue
            for segment in context.segments_to_bind:
                reason = self._why_not(context, segment, agent)
                if not reason:
                    return
                reasons.append(f"segment {segment[api.ID]}: {reason}")
        if reasons:
            self._warn(f"Port {port} cannot be bound on {host}: {'; '.join(reasons)}")

    def _warn(self, text: str) -> None:
        """ML2 tries ten times in a row: say it once."""
        now = time.monotonic()
        before, when = self._said
        if text == before and now - when < SAID_S:
            LOG.debug("%s", text)
            return
        self._said = text, now
        LOG.warning("%s", text)


def _is_neutrons_own(context: Any) -> bool:
    """A port of the DHCP or L3 agent: our interface driver attaches a TAP device."""
    owner = context.current.get("device_owner") or ""
    return bool(owner.startswith(constants.DEVICE_OWNER_PREFIXES))

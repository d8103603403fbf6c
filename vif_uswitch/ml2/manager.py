# SPDX-License-Identifier: Apache-2.0
"""Our half of Neutron's common agent loop: the questions it asks, answered by ``wirer``.

The loop asks in a fixed order for each port: anti-spoofing, plug, state.  Here
it all happens in ``plug_interface``, in one step on the switch, so that a port
is never in its network unguarded; what comes before only remembers.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from neutron_lib.agent import topics

from vif_uswitch.ml2 import binding
from vif_uswitch.ml2.callbacks import UswitchRpcCallbacks
from vif_uswitch.ml2.compat import CommonAgentManagerBase
from vif_uswitch.ml2.plugger import Plugger
from vif_uswitch.ml2.unnoticed import Unnoticed
from vif_uswitch.ml2.wirer import Wirer

LOG = logging.getLogger(__name__)
Json = dict[str, Any]


class UswitchManager(CommonAgentManagerBase):
    def __init__(self, wirer: Wirer, host: str, vhost_socket_dir: str = "") -> None:
        """``vhost_socket_dir``: "" for what uswitchd says."""
        self.wirer = wirer
        self.plugger = Plugger(wirer.switch, host)
        self.unnoticed = Unnoticed(host)
        self.host = host
        self._vhost_socket_dir = vhost_socket_dir
        self._details: Json = {}

    # ---- who we are ----

    def get_agent_id(self) -> str:
        return f"uswitch-{self.host}"

    def get_agent_configurations(self) -> Json:
        """What neutron-server's half knows of this host; sent with each heartbeat."""
        return {
            binding.MAPPINGS: self.wirer.mappings(),
            binding.SOCKET_DIR: self._vhost_socket_dir or self.wirer.switch.vhost_socket_dir,
            binding.SWITCH_PROBLEM: self.wirer.switch.problem(),
        }

    def get_extension_driver_type(self) -> str:
        return "uswitch"

    def get_agent_api(self, **kwargs: Any) -> None:
        """Nothing yet for L2 extensions: QoS and trunks will need the wirer."""

    def get_rpc_callbacks(self, context: Any, agent: Any, sg_agent: Any) -> UswitchRpcCallbacks:
        return UswitchRpcCallbacks(context, agent, sg_agent)

    def get_rpc_consumers(self) -> list[list[str]]:
        return [
            [topics.PORT, topics.UPDATE],
            [topics.PORT, topics.DELETE],
            [topics.PORT_BINDING, topics.ACTIVATE],
            [topics.PORT_BINDING, topics.DEACTIVATE],
            [topics.NETWORK, topics.UPDATE],
            [topics.NETWORK, topics.DELETE],
            [topics.SECURITY_GROUP, topics.UPDATE],
        ]

    # ---- which ports there are ----

    def get_all_devices(self) -> set[str]:
        return self.wirer.devices()

    def get_devices_modified_timestamps(self, devices: Iterable[str]) -> Json:
        return dict(self.wirer.timestamps(devices))

    # ---- one port ----

    def setup_arp_spoofing_protection(self, device: str, device_details: Json) -> None:
        self._details = device_details

    def plug_interface(
        self, network_id: str, network_segment: Any, device: str, device_owner: str
    ) -> bool:
        details, self._details = self._details, {}
        return self.wirer.wire(details)

    def ensure_port_admin_state(self, device: str, admin_state_up: bool) -> None:
        """Was part of the same step."""

    def delete_arp_spoofing_protection(self, devices: Iterable[str]) -> None:
        """The guard went with its port."""
        self.wirer.gone(devices)

    def delete_unreferenced_arp_protection(self, current_devices: Iterable[str]) -> None:
        """There is none: a guard is a part of its port."""

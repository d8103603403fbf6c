# SPDX-License-Identifier: Apache-2.0
"""What neutron-server tells the agent: only marks, the loop does the work.

Runs in threads of oslo.messaging.  A notification carries no truth, since two
may arrive in the wrong order; it names a port that the loop then asks Neutron
about, and wakes the loop if the port is on this host.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

import oslo_messaging

from vif_uswitch.ml2.compat import (
    CommonAgentManagerRpcCallBackBase,
    SecurityGroupAgentRpcCallbackMixin,
)

LOG = logging.getLogger(__name__)
Json = dict[str, Any]


class UswitchRpcCallbacks(SecurityGroupAgentRpcCallbackMixin, CommonAgentManagerRpcCallBackBase):
    # 1.4: network_update; 1.5: binding_activate, binding_deactivate
    updated_devices: set[str]

    target = oslo_messaging.Target(version="1.5")

    def __init__(self, context: Any, agent: Any, sg_agent: Any) -> None:
        super().__init__(context, agent, sg_agent)
        self._lock = threading.Lock()
        self._news = threading.Event()
        self._port_dicts: dict[str, Json] = {}
        self._deleted: set[str] = set()

    # ---- from neutron-server ----

    def port_update(self, context: Any, **kwargs: Any) -> None:
        port = kwargs["port"]
        with self._lock:
            self._port_dicts[port["id"]] = port
        self._mark({port["id"]}, bound_here=port.get("binding:host_id") == self.agent.mgr.host)

    def port_delete(self, context: Any, **kwargs: Any) -> None:
        with self._lock:
            self._deleted.add(kwargs["port_id"])
        self._mark({kwargs["port_id"]})

    def network_update(self, context: Any, **kwargs: Any) -> None:
        self._mark(self.agent.mgr.wirer.known_in(kwargs["network"]["id"]))

    def network_delete(self, context: Any, **kwargs: Any) -> None:
        self._mark(self.agent.mgr.wirer.known_in(kwargs["network_id"]))

    def binding_activate(self, context: Any, **kwargs: Any) -> None:
        if kwargs.get("host") == self.agent.mgr.host:
            self._mark({kwargs["port_id"]})

    def binding_deactivate(self, context: Any, **kwargs: Any) -> None:
        if kwargs.get("host") == self.agent.mgr.host:
            self._mark({kwargs["port_id"]})

    def security_groups_rule_updated(self, context: Any, **kwargs: Any) -> None:
        """Rules are not enforced yet; the firewall driver is noop."""

    def security_groups_member_updated(self, context: Any, **kwargs: Any) -> None:
        """As above."""

    # ---- for the loop ----

    def mark(self, ports: set[str]) -> None:
        """As if they had been announced: the loop has found that they changed."""
        self._mark(ports)

    def _mark(self, ports: set[str], bound_here: bool = False) -> None:
        with self._lock:
            self.updated_devices |= ports
        if bound_here or ports & self.agent.mgr.wirer.known():
            self._news.set()

    def get_and_clear_updated_devices(self) -> set[str]:
        with self._lock:
            updated, self.updated_devices = self.updated_devices, set()
        return updated

    def take_ports(self) -> tuple[list[Json], set[str]]:
        """Ports as they were last announced, and those deleted, since the last call."""
        with self._lock:
            ports, self._port_dicts = list(self._port_dicts.values()), {}
            deleted, self._deleted = self._deleted, set()
        return ports, deleted

    def wait(self, seconds: float) -> None:
        """Until there is news of a port of this host, or for that long."""
        self._news.wait(seconds)
        self._news.clear()

    def wake(self) -> None:
        self._news.set()

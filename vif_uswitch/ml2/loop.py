# SPDX-License-Identifier: Apache-2.0
"""The agent's loop: Neutron's common one, with what a switch in another process needs.

What differs from the base class, and why:

* it waits for news as well as for the clock, and ends when it is told to;
* a port that cannot be wired is this port's trouble, not the whole pass's;
* while uswitchd does not answer, nobody is asked and nothing is reported: a
  port's status in Neutron should not change because nobody can look;
* it asks for everything again after anything that may have swallowed
  notifications: a heartbeat that failed, a uswitchd that was restarted; and
  compares its ports with neutron-server's now and then, for what nobody notices;
* neutron-server hears at once that a uswitchd which was away answers again: it
  refuses to bind instances here until then;
* a port whose binding is not active here (the target of a live migration) is
  wired before its guest comes, without its address pinned, and reported plugged:
  Nova makes the binding active some time after the guest runs here.
"""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable
from typing import Any

import oslo_messaging
from neutron_lib import constants
from oslo_config import cfg

from vif_uswitch.exceptions import DaemonUnreachable
from vif_uswitch.ml2 import binding, wiring
from vif_uswitch.ml2.compat import CommonAgentLoop
from vif_uswitch.ml2.wirer import CutRefused, PortGone, Wirer

LOG = logging.getLogger(__name__)

Json = dict[str, Any]


class UswitchAgentLoop(CommonAgentLoop):
    fullsync: bool

    def __init__(self, *args: Any) -> None:
        self._reporting = threading.Lock()
        super().__init__(*args)
        self._stopping = threading.Event()
        self._ended = threading.Event()

    @property
    def wirer(self) -> Wirer:
        wirer: Wirer = self.mgr.wirer
        return wirer

    # ---- life ----

    def daemon_loop(self) -> None:
        LOG.info("%s started", self.agent_type)
        devices: Json | None = None
        sync = True
        try:
            while not self._stopping.is_set():
                devices, sync = self._pass(devices, sync)
                self.iter_num += 1
                self.rpc_callbacks.wait(self.polling_interval)
        finally:
            self._ended.set()

    def stop(self, graceful: bool = True) -> None:
        """End the loop after the pass that it is in; ports stay as they are."""
        self._stopping.set()
        if hasattr(self, "rpc_callbacks"):
            self.rpc_callbacks.wake()
            self._ended.wait(self.quitting_rpc_timeout or None)
        super().stop(graceful)

    def _pass(self, previous: Json | None, sync: bool) -> tuple[Json | None, bool]:
        """One look at the switch and what follows; returns what was seen, and if all is due."""
        all_due = self._take_fullsync() or sync
        try:
            devices = self.scan_devices(previous=previous, sync=all_due)
            if self.wirer.switch.is_away():
                return previous, True
            if self.agent_state["configurations"].get(binding.SWITCH_PROBLEM):
                self._report_state()
            if self.wirer.switch.take_restarted() and not all_due:
                all_due = True
                devices = self.scan_devices(previous=devices, sync=True)
            self._plug(all_due)
            changed = self._device_info_has_changes(devices)
            failed = bool(changed and self.process_network_devices(devices))
            if changed or all_due:
                self.wirer.sweep(whole=all_due)
            return devices, failed
        except oslo_messaging.MessagingException as error:
            LOG.warning("neutron-server cannot be asked: %s; all ports are looked at again", error)
            return previous, True
        except Exception:
            LOG.exception("Error in the agent's loop; all ports are looked at again")
            return previous, True

    def _take_fullsync(self) -> bool:
        """Cleared only if it was seen: the heartbeat's thread may set it at any time."""
        if not self.fullsync:
            return False
        self.fullsync = False
        return True

    def _report_state(self) -> None:
        """The heartbeat, in a thread of its own; and the loop, when there is news."""
        with self._reporting:
            failed_before = self.failed_report_state
            self.agent_state["configurations"].update(self.mgr.get_agent_configurations())
            super()._report_state()
            if failed_before and not self.failed_report_state:
                self.fullsync = True  # notifications were lost meanwhile, perhaps

    # ---- ports ----

    def treat_devices_added_updated(self, devices: set[str]) -> bool:
        """Whether all should be looked at again."""
        try:
            answer = self.plugin_rpc.get_devices_details_list_and_failed_devices(
                self.context, list(devices), self.agent_id, host=cfg.CONF.host
            )
        except oslo_messaging.MessagingException as error:
            LOG.warning("neutron-server cannot be asked about %d ports: %s", len(devices), error)
            return True
        ports_here = functools.cache(self._ports_here)
        for details in answer["devices"]:
            self._treat(details, ports_here)
        for device in answer["failed_devices"]:
            self.wirer.failed(device, "neutron-server failed to tell about it, see its log")
        return False

    def _treat(self, details: Json, ports_here: Callable[[], list[Json]]) -> None:
        """Nothing is raised: one port's trouble is not another's."""
        device = str(details.get("device"))
        try:
            if "port_id" in details:
                self._process_device_if_exists(details)
            elif constants.NO_ACTIVE_BINDING in details:
                self._hold(device, ports_here)
            elif self.wirer.cut(device):
                LOG.info("Port %s is unknown to Neutron, or not bound: taken out of its network",
                         device)  # fmt: skip
        except PortGone:
            LOG.info("Port %s was unplugged while it was being wired", device)
        except CutRefused:
            LOG.debug("Port %s stays in its network for now", device)
        except DaemonUnreachable:
            self.fullsync = True
        except oslo_messaging.MessagingException as error:
            LOG.warning("Port %s cannot be reported: %s; all are looked at again", device, error)
            self.fullsync = True
        except Exception:
            LOG.exception("Port %s failed", device)
            self.wirer.failed(device, "an unexpected error, see above")

    def _hold(self, device: str, ports_here: Callable[[], list[Json]]) -> None:
        """Its guest has moved to another host, or is still there and will come here."""
        if self.wirer.has_left(device):
            return
        LOG.info("Port %s waits for its guest from another host", device)
        details = self._details_of_expected(device, ports_here())
        if details is None or self.wirer.wire(details):
            # neutron-server passes this on to Nova although the port is not bound here.
            self.plugin_rpc.update_device_up(self.context, device, self.agent_id, cfg.CONF.host)

    def _details_of_expected(self, device: str, ports_here: list[Json]) -> Json | None:
        """None if they cannot be known: then the port is in no network until its guest is bound."""
        found = [port for port in ports_here if port["id"] == device]
        if not found:
            return None
        network = self.plugin_rpc.get_network_details(
            self.context, found[0]["network_id"], self.agent_id, cfg.CONF.host
        )
        return wiring.details_of(found[0], network)

    def _ports_here(self) -> list[Json]:
        """All that have a binding on this host, active or not."""
        ports: list[Json] = self.plugin_rpc.get_ports_by_vnic_type_and_host(
            self.context, vnic_type="normal", host=cfg.CONF.host
        )
        return ports

    def _plug(self, whole: bool) -> None:
        """Make and delete the ports that Nova leaves to the agent (nova_plug = noop).

        The same answer of neutron-server shows which ports changed unnoticed: the next pass
        looks at them, unless this one (``whole``) does so at all.
        """
        announced, deleted = self.rpc_callbacks.take_ports()
        due = self.mgr.plugger.due(announced, deleted, whole=whole)
        if self.mgr.unnoticed.due() or due:
            ports = self._ports_here()
            self.mgr.plugger.pulled(ports)
            changed = self.mgr.unnoticed.changed(ports, self.wirer.switch.view)
            if not whole:
                self.rpc_callbacks.mark(changed)

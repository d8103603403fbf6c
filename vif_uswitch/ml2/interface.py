# SPDX-License-Identifier: Apache-2.0
"""Interface driver of Neutron's DHCP and L3 agents: TAP devices on the switch.

    [DEFAULT]
    interface_driver = uswitch

The agent's own privileged helper makes the device and gives it to the user of
uswitchd, who opens it without any privilege; then the device moves to the
agent's namespace.  The switch has one port for it, named like the Neutron port
and in no segment: the L2 agent wires it as it does a guest's.

The device's alias is the id of its port, so that the port can be made again
where only the device is known.  Called in any of the agent's threads.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from neutron.agent.linux import interface, ip_lib
from neutron.privileged.agent.linux import ip_lib as privileged

from vif_uswitch import patience
from vif_uswitch.client import Client
from vif_uswitch.exceptions import Conflict, InvalidInput, NotFound
from vif_uswitch.ml2 import conf as options

LOG = logging.getLogger(__name__)

PATIENCE_S = 30.0
"""How long uswitchd may be away (an upgrade, a restart) or busy before the agent is told."""

_DEVICE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,14}")  # as the API has it
_PORT = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# One frame a read, with the virtio header: checksums and long segments pass as they are.
_FLAGS = {"no_pi": 1, "one_queue": 0, "vnet_hdr": 1, "multi_queue": 0}
T = TypeVar("T")


class UswitchInterfaceDriver(interface.LinuxInterfaceDriver):
    """Raises what ``exceptions.py`` has when the switch refuses; the agent logs it and repeats."""

    def __init__(self, conf: Any, **kwargs: Any) -> None:
        super().__init__(conf, **kwargs)
        options.register_agent_opts(conf)

    def plug_new(
        self, network_id: str, port_id: str, device_name: str, mac_address: str,
        bridge: str | None = None, namespace: str | None = None, prefix: str | None = None,
        mtu: int | None = None, link_up: bool = True,
    ) -> None:  # fmt: skip
        """Makes device and port; either both are there afterwards, or none and it raises."""
        _check_name(device_name)
        spec = _spec(port_id, device_name, namespace, mtu, network=network_id)
        self._forget_stale(port_id)
        uid = self._ask(f"port {port_id}", lambda client: client.peer_uid())
        device = _make_device(device_name, namespace, uid)
        with self._undone(port_id, device_name, namespace):
            device.link.set_address(mac_address)
            device.link.set_alias(port_id)
            if mtu:
                device.link.set_mtu(mtu)
            # While it is in the host's namespace uswitchd opens it without anybody's help.
            self._ask(f"port {port_id}", lambda client: client.port_ensure(spec))
            if namespace:
                ip_lib.IPWrapper().ensure_namespace(namespace).add_device_to_namespace(device)
            if link_up:
                device.link.set_up()
        LOG.info("port %s: device %s in %s", port_id, device_name, namespace or "the host")

    def unplug(
        self, device_name: str, bridge: str | None = None, namespace: str | None = None,
        prefix: str | None = None,
    ) -> None:  # fmt: skip
        """Neither device nor port is there afterwards, or it raises and may be repeated.

        The port goes first: as long as the device is there, the agent comes back for it.
        """
        for port in self._ports_on(device_name, namespace):
            self._delete(port["name"])
            LOG.info("port %s: device %s is unplugged", port["name"], device_name)
        _delete_device(device_name, namespace)

    def set_mtu(
        self, device_name: str, mtu: int, namespace: str | None = None, prefix: str | None = None
    ) -> None:
        """The agent calls this for each device that it finds, too: a lost port is made again."""
        ip_lib.IPDevice(device_name, namespace=namespace).link.set_mtu(mtu)
        ports = self._ports_on(device_name, namespace)
        for port in ports:
            # Tells the switch as well to try a device again that it could not open.
            self._set_mtu_of(port["name"], mtu)
        port_id = _alias(device_name, namespace)
        if not ports and port_id:
            LOG.warning("port %s: the switch lost it, and gets it again", port_id)
            spec = _spec(port_id, device_name, namespace, mtu)
            self._ask(f"port {port_id}", lambda client: client.port_ensure(spec))

    # ---- the switch ----

    def _ask(self, subject: str, request: Callable[[Client], T]) -> T:
        """The answer to ``request``, which can be repeated, as soon as uswitchd has one."""
        section = self.conf[options.AGENT_GROUP]
        caller = patience.Caller(
            section.control_socket, section.timeout, "this agent", options.AGENT_GROUP
        )
        return patience.insist(caller, request, PATIENCE_S, subject)

    def _delete(self, name: str) -> None:
        self._ask(f"port {name}", lambda client: client.port_delete(name))

    def _set_mtu_of(self, name: str, mtu: int) -> None:
        found = self._ask(f"port {name}", lambda client: client.port_set(name, {"mtu": mtu}))
        if found["port"]["reason"]:
            LOG.warning("port %s is %s: %s", name, found["port"]["link"], found["port"]["reason"])

    def _ports_on(self, device_name: str, namespace: str | None) -> list[dict[str, Any]]:
        """One, or none; by what the switch says, and by what the device does."""
        place = (device_name, namespace or "")
        alias = _alias(device_name, namespace)
        ports = self._ask(f"device {device_name}", lambda client: client.port_list())
        return [
            port for port in ports if port["type"] == "tap"
            and (port["name"] == alias or (port["ifname"], port["netns"]) == place)
        ]  # fmt: skip

    def _forget_stale(self, port_id: str) -> None:
        """The device is new, so whatever port of that name there is has lost its own."""
        try:
            shown = self._ask(f"port {port_id}", lambda client: client.port_show(port_id))
        except NotFound:
            return
        kind = shown["port"]["type"]
        if kind != "tap":
            raise Conflict(
                "port", port_id, f"is a {kind} port of the switch: a guest's",
                f"See: uswitchctl port show {port_id}",
            )  # fmt: skip
        self._delete(port_id)

    @contextlib.contextmanager
    def _undone(self, port_id: str, device_name: str, namespace: str | None) -> Iterator[None]:
        """Leaves nothing behind if the body fails."""
        try:
            yield
        except Exception as error:
            LOG.error("port %s: device %s cannot be plugged: %s", port_id, device_name, error)
            section = self.conf[options.AGENT_GROUP]
            with contextlib.suppress(Exception):  # once: who waited in vain does not wait again
                with Client(section.control_socket, section.timeout) as client:
                    client.port_delete(port_id)
            with contextlib.suppress(Exception):
                _delete_device(device_name, namespace)
            raise


# ---- the device ----


def _check_name(device_name: str) -> None:
    if not _DEVICE.fullmatch(device_name):
        raise InvalidInput(
            "device", device_name, "is no name that the switch takes",
            "1 to 15 letters, digits, '.', '_' and '-'",
        )  # fmt: skip


def _spec(
    port_id: str, device_name: str, namespace: str | None, mtu: int | None, **ids: str
) -> dict[str, Any]:
    """What uswitchd is told; ``ids``: more of what shall be known of whose it is."""
    return {
        "name": port_id,
        "type": "tap",
        "ifname": device_name,
        "netns": namespace or "",
        "mtu": mtu or None,
        "external_ids": {"owner": _owner(device_name), **ids},
    }


def _owner(device_name: str) -> str:
    """Whose port it is, told by the prefix that each agent has: the L3 agent has several."""
    dhcp = device_name.startswith(UswitchInterfaceDriver.DEV_NAME_PREFIX)
    return "neutron-dhcp" if dhcp else "neutron-l3"


def _make_device(device_name: str, namespace: str | None, uid: int) -> Any:
    """A persistent TAP device in the host's namespace that user ``uid`` may open."""
    for place in {namespace or None, None}:
        left = ip_lib.IPDevice(device_name, namespace=place)
        if not left.link.exists:
            continue
        if not _is_tap(left):  # else an agent was ended half-way
            raise Conflict(
                "device", device_name, "is there already, and is no TAP device",
                "Delete it, or give it another name: ip link",
            )  # fmt: skip
        left.link.delete()
    privileged.create_interface(device_name, None, "tuntap", mode="tap", uid=uid, ifr=_FLAGS)
    return ip_lib.IPDevice(device_name)


def _delete_device(device_name: str, namespace: str | None) -> None:
    """Where it belongs, and where it was made."""
    device = ip_lib.IPDevice(device_name, namespace=namespace)
    if device.link.exists:
        device.link.delete()
    half_way = ip_lib.IPDevice(device_name)
    if namespace and half_way.link.exists and _is_tap(half_way):
        half_way.link.delete()


def _alias(device_name: str, namespace: str | None) -> str:
    """The id of the device's port, "" if it is not there or not one of ours."""
    device = ip_lib.IPDevice(device_name, namespace=namespace)
    found = device.link.alias if device.link.exists else None
    return found if found and _PORT.fullmatch(found) else ""


def _is_tap(device: Any) -> bool:
    return bool(device.link.link_kind == "tun")

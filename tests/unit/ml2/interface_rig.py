# SPDX-License-Identifier: Apache-2.0
"""The world of the interface driver, for test_interface.py: Neutron's ip_lib over devices in a
dictionary, and uswitchd behind its client.

Both note what was asked of them, in one list, so that a test can tell what came first.
"""

from __future__ import annotations

import importlib
import sys
import types
from dataclasses import dataclass, field
from typing import Any

import pytest

from vif_uswitch import patience
from vif_uswitch.exceptions import DaemonUnreachable, NotFound, USwitchError

MODULE = "vif_uswitch.ml2.interface"
Key = tuple[str | None, str]  # namespace, name


@dataclass
class Device:
    kind: str = "tun"
    made: dict[str, Any] = field(default_factory=dict)
    set: dict[str, Any] = field(default_factory=dict)
    up: bool = False


class World:
    """``fail``: name of an action of the list, and what it raises."""

    def __init__(self) -> None:
        self.devices: dict[Key, Device] = {}
        self.namespaces: set[str] = set()
        self.ports: dict[str, dict[str, Any]] = {}
        self.log: list[str] = []
        self.fail: dict[str, Exception] = {}
        self.down = 0  # so many calls fail with ``absence``
        self.absence: USwitchError = DaemonUnreachable("control socket", "/s", "is not there")
        self.calls = 0

    def did(self, what: str) -> None:
        self.log.append(what)
        if what in self.fail:
            raise self.fail[what]


class Link:
    """IpLinkCommand."""

    def __init__(self, world: World, name: str, namespace: str | None) -> None:
        self.world, self.name, self.namespace = world, name, namespace

    @property
    def _device(self) -> Device:
        try:
            return self.world.devices[self.namespace, self.name]
        except KeyError:
            raise RuntimeError(f"{self.name} is not in {self.namespace}") from None

    @property
    def exists(self) -> bool:
        return (self.namespace, self.name) in self.world.devices

    @property
    def link_kind(self) -> str:
        return self._device.kind

    @property
    def alias(self) -> str | None:
        return self._device.set.get("alias")

    def set_address(self, mac: str) -> None:
        self.world.did("address")
        self._device.set["mac"] = mac

    def set_alias(self, alias: str) -> None:
        self._device.set["alias"] = alias

    def set_mtu(self, mtu: int) -> None:
        self.world.did("mtu")
        self._device.set["mtu"] = mtu

    def set_up(self) -> None:
        self.world.did("up")
        self._device.up = True

    def delete(self) -> None:
        self.world.did("device deleted")
        del self.world.devices[self.namespace, self.name]

    def set_netns(self, namespace: str) -> None:
        self.world.did("moved")
        self.world.devices[namespace, self.name] = self.world.devices.pop(
            (self.namespace, self.name)
        )
        self.namespace = namespace


class FakeClient:
    """``Client`` with the ports of the world behind it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.closed = False

    def __enter__(self) -> FakeClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.closed = True

    def _reach(self) -> None:
        self.world.calls += 1
        if self.world.down:
            self.world.down -= 1
            raise self.world.absence

    def peer_uid(self) -> int:
        self._reach()
        return 4711

    def port_list(self) -> list[dict[str, Any]]:
        self._reach()
        return list(self.world.ports.values())

    def port_show(self, name: str) -> dict[str, Any]:
        self._reach()
        if name not in self.world.ports:
            raise NotFound("port", name, "does not exist")
        return {"port": self.world.ports[name]}

    def port_ensure(self, port: dict[str, Any], *, create_segments: bool = False) -> Any:
        self._reach()
        self.world.did("port ensured")
        places = {None, port["netns"] or None}
        if not any((place, port["ifname"]) in self.world.devices for place in places):
            raise NotFound("the TAP device", port["ifname"], "it does not exist")
        self.world.ports[port["name"]] = port
        return {"port": port, "created": True, "changed": True}

    def port_set(self, name: str, changes: dict[str, Any]) -> Any:
        self._reach()
        self.world.ports[name].update(changes)
        return {"port": {"link": "up", "reason": "", **self.world.ports[name]}}

    def port_delete(self, name: str) -> bool:
        self._reach()
        self.world.did("port deleted")
        return self.world.ports.pop(name, None) is not None


class Conf(dict[str, Any]):
    """As much of ConfigOpts as is used."""

    def register_opts(self, opts: list[Any], group: str) -> None:
        self[group] = types.SimpleNamespace(**{opt.dest: opt.default for opt in opts})


def _fake_neutron(world: World) -> dict[str, types.ModuleType]:
    def module(name: str, **members: Any) -> types.ModuleType:
        made = types.ModuleType(name)
        vars(made).update(members)
        return made

    def device(name: str, namespace: str | None = None) -> Any:
        return types.SimpleNamespace(name=name, link=Link(world, name, namespace))

    def wrapper(namespace: str | None = None) -> Any:
        def ensure_namespace(name: str) -> Any:
            world.namespaces.add(name)
            return wrapper(name)

        return types.SimpleNamespace(
            ensure_namespace=ensure_namespace,
            add_device_to_namespace=lambda one: one.link.set_netns(namespace),
        )

    def create(name: str, namespace: str | None, kind: str, **options: Any) -> None:
        world.did("device made")
        assert kind == "tuntap" and (namespace, name) not in world.devices
        world.devices[namespace, name] = Device(made=options)

    class Base:
        DEV_NAME_PREFIX = "tap"

        def __init__(self, conf: Any, **_: Any) -> None:
            self.conf = conf

    ip_lib = module("neutron.agent.linux.ip_lib", IPDevice=device, IPWrapper=wrapper)
    interface = module("neutron.agent.linux.interface", LinuxInterfaceDriver=Base)
    privileged = module("neutron.privileged.agent.linux.ip_lib", create_interface=create)
    found = {one.__name__: one for one in (ip_lib, interface, privileged)}
    for name in list(found):
        parts = name.split(".")
        for count in range(1, len(parts)):
            parent = ".".join(parts[:count])
            found.setdefault(parent, module(parent))
    for name, one in found.items():
        above, _, last = name.rpartition(".")
        if above:
            setattr(found[above], last, one)
    return found


def load(world: World, patch: pytest.MonkeyPatch) -> Any:
    """The module under test, in this world."""
    for name, module in _fake_neutron(world).items():
        patch.setitem(sys.modules, name, module)
    patch.delitem(sys.modules, MODULE, raising=False)
    found = importlib.import_module(MODULE)
    patch.delitem(sys.modules, MODULE)
    for asking in (found, patience):
        patch.setattr(asking, "Client", lambda path, timeout_s: FakeClient(world))
    patch.setattr(patience, "PAUSE_S", (0.0, 0.0))
    return found


REFUSED = USwitchError("port", "x", "was refused")

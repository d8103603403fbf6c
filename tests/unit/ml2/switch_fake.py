# SPDX-License-Identifier: Apache-2.0
"""uswitchd as the agent's parts see it: a ``Control`` over two dictionaries, which notes each call.

It has the rules that the agent leans on (a segment in use is not deleted, two
ports of a segment do not pin one address), and can be away.
"""

from __future__ import annotations

from typing import Any

from vif_uswitch.exceptions import Busy, Conflict, DaemonUnreachable, NotFound, USwitchError
from vif_uswitch.ml2 import binding

Json = dict[str, Any]

NET, NET2 = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
PORT, PORT2 = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa", "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb"
MAC = "fa:16:3e:00:00:01"


def port(name: str, **more: Any) -> Json:
    """A port as port.list shows a fresh one."""
    return {
        "name": name, "type": "vhost-user", "segment": None, "trunk": [], "macs": [], "mtu": 1500,
        "admin_up": True, "guard": None, "external_ids": {"owner": "nova"}, "created_us": 1,
        "physnet": "", **more,
    }  # fmt: skip


def uplink(name: str, physnet: str = "", rows: dict[int | None, str] | None = None) -> Json:
    """An uplink likewise; ``rows``: VLAN id (None: untagged) -> segment."""
    rows = rows or {}
    trunk = [{"vid": vid, "segment": segment} for vid, segment in rows.items() if vid is not None]
    return port(name, type="xdp", physnet=physnet, segment=rows.get(None), trunk=trunk)


def details(device: str = PORT, **more: Any) -> Json:
    """A port as neutron-server describes it to agents."""
    return {
        "device": device, "port_id": device, "network_id": NET, "mac_address": MAC, "mtu": 1450,
        "network_type": "vlan", "physical_network": "physnet1", "segmentation_id": 101,
        "admin_state_up": True, "device_owner": "compute:nova", "port_security_enabled": True,
        "fixed_ips": [{"subnet_id": "s", "ip_address": "10.0.0.5"}], "allowed_address_pairs": [],
        **more,
    }  # fmt: skip


def bound(port_id: str = PORT, nova_plug: str = "noop", **more: Any) -> Json:
    """A port on host1 as neutron-server announces it."""
    vif = binding.vhostuser_details(f"/run/uswitch/vhost/{port_id}.sock", nova_plug)
    return {
        "id": port_id, "network_id": NET, "device_id": "instance", "binding:host_id": "host1",
        "binding:vif_type": "vhostuser", "binding:vif_details": vif, **more,
    }  # fmt: skip


def listed(port_id: str = PORT, nova_plug: str = "vrouter", **more: Any) -> Json:
    """A port on host1 as neutron-server lists it: what the API shows, nothing of its network."""
    told = details(port_id)
    shown = ("mac_address", "admin_state_up", "device_owner", "port_security_enabled", "fixed_ips",
             "allowed_address_pairs")  # fmt: skip
    return bound(port_id, nova_plug, **{
        **{key: told[key] for key in shown},
        "name": "", "status": "ACTIVE", "revision_number": 3, "updated_at": "2026-01-01T00:00:00Z",
        **more,
    })  # fmt: skip


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class FakeControl:
    def __init__(self, *ports: Json) -> None:
        self.ports = {item["name"]: item for item in ports}
        self.segment_names = {row for item in ports for row in _segments(item)}
        self.calls: list[tuple[str, ...]] = []
        self.pid = 100
        self.revision: int | None = None  # None: not told, as tests change ports by hand
        self.lists = 0
        self.away = False
        self.refuse: dict[str, USwitchError] = {}  # by name of a port or uplink

    # ---- looking ----

    def version(self) -> Json:
        self._there()
        return {"pid": self.pid, **({} if self.revision is None else {"revision": self.revision})}

    def show(self) -> Json:
        self._there()
        return {"daemon": {"pid": self.pid, "vhost_socket_dir": "/run/uswitch/vhost"}}

    def port_list(self) -> list[Json]:
        self._there()
        self.lists += 1
        return [dict(item) for item in self.ports.values()]

    def segment_list(self) -> list[Json]:
        self._there()
        return [{"name": name} for name in sorted(self.segment_names)]

    # ---- changing ----

    def port_ensure(self, port: Json) -> Json:
        self._change("ensure", port["name"])
        self.ports.setdefault(port["name"], _fresh(port))
        return {"port": dict(self.ports[port["name"]])}

    def port_set(self, name: str, changes: Json, *, create_segments: bool) -> Json:
        self._change("set", name, *sorted(changes))
        if name not in self.ports:
            raise NotFound("port", name, "does not exist")
        self._no_mac_twice(name, {**self.ports[name], **changes})
        self.ports[name] = {**self.ports[name], **changes}
        if changes.get("segment"):
            self.segment_names.add(changes["segment"])
        return {"port": dict(self.ports[name])}

    def port_delete(self, name: str) -> bool:
        self._change("delete", name)
        return self.ports.pop(name, None) is not None

    def segment_delete(self, name: str) -> bool:
        self._change("segment-delete", name)
        if any(name in _segments(item) for item in self.ports.values()):
            raise Busy("segment", name, "is in use")
        self.segment_names.discard(name)
        return True

    def uplink_map(
        self, name: str, vid: int | None, segment: str | None, create_segments: bool = False
    ) -> Json:
        self._change("map", name, str(vid), str(segment))
        item = dict(self.ports[name])
        if vid is None:
            item["segment"] = segment
        else:
            rest = [row for row in item["trunk"] if row["vid"] != vid]
            item["trunk"] = rest if segment is None else [*rest, {"vid": vid, "segment": segment}]
        self.ports[name] = item
        if segment is not None:
            self.segment_names.add(segment)
        return {"uplink": {"port": dict(item)}}

    def _no_mac_twice(self, name: str, item: Json) -> None:
        for other in self.ports.values():
            same = set(item["macs"]) & set(other["macs"]) and _segments(item) & _segments(other)
            if other["name"] != name and same:
                raise Conflict("MAC address", MAC, f"is pinned to port {other['name']}")

    def _there(self) -> None:
        if self.away:
            raise DaemonUnreachable("control socket", "/x", "has nobody behind it")

    def _change(self, verb: str, name: str, *more: str) -> None:
        self._there()
        if name in self.refuse:
            raise self.refuse[name]
        self.calls.append((verb, name, *more))


def _segments(item: Json) -> set[str]:
    return {item["segment"], *(row["segment"] for row in item["trunk"])} - {None}


def _fresh(spec: Json) -> Json:
    return port(spec["name"], external_ids=spec.get("external_ids", {}))

# SPDX-License-Identifier: Apache-2.0
"""Nova's part of a compute node, without its services: what nova-compute's libvirt driver calls.

Neutron's answer about a port, with the binding that our mechanism driver makes,
becomes Nova's own model of an interface; from there on the code is Nova's:
``LibvirtGenericVIFDriver`` plugs it through os-vif and writes its XML.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import nova.conf
import os_vif
from nova import objects
from nova.network import model
from nova.virt.libvirt import vif as libvirt_vif

from testbed.daemons import Switch

CONF = nova.conf.CONF
PLUGS = {"vrouter": "vhostuser_vrouter_plug", "fp": "vhostuser_fp_plug"}  # [ml2_uswitch] nova_plug
TIMEOUT_S = 5


def mac_of(number: int) -> str:
    return f"fa:16:3e:00:00:{number:02x}"


@dataclass
class Server:
    """An instance of Nova's database, as much of it as plugging needs."""

    name: str = "instance-0000002a"
    uuid: str = field(default_factory=lambda: str(uuid.uuid4()))
    extra_specs: dict[str, str] = field(default_factory=dict)

    def instance(self) -> objects.Instance:
        flavor = objects.Flavor(vcpus=1, memory_mb=192, root_gb=0, extra_specs=self.extra_specs)
        made = objects.Instance(
            id=42, uuid=self.uuid, project_id="9d3f1c2b4a5e4f60", display_name="web",
            flavor=flavor, system_metadata={}, host="compute1",
        )  # fmt: skip
        return made


class Compute:
    """One compute node: real os-vif with our plugin, told of this switch by its configuration."""

    def __init__(self, switch: Switch) -> None:
        self.switch = switch
        self.driver = libvirt_vif.LibvirtGenericVIFDriver()
        objects.register_all()
        os_vif.initialize()
        CONF([], project="nova", default_config_files=[])
        self.configure("os_vif_uswitch", control_socket=str(switch.control), timeout=TIMEOUT_S)

    @staticmethod
    def configure(group: str, **values: Any) -> None:
        for name, value in values.items():
            CONF.set_override(name, value, group)

    def close(self) -> None:
        CONF.reset()
        CONF.clear_override("control_socket", "os_vif_uswitch")
        CONF.clear_override("timeout", "os_vif_uswitch")
        CONF.clear_override("vhost_socket_dir", "os_vif_uswitch")

    def vif(self, number: int, *, nova_plug: str = "vrouter", path: str = "",
            mtu: int | None = 1450, **changes: Any) -> model.VIF:
        """The interface of a port that is bound to this node."""
        port_id = str(uuid.uuid4())
        details = {
            "vhostuser_socket": path or str(self.socket(port_id)),
            "vhostuser_mode": "server",
            "port_filter": False,
            "connectivity": "l2",
            **({PLUGS[nova_plug]: True} if nova_plug in PLUGS else {}),
        }
        network = model.Network(id=str(uuid.uuid4()), bridge=None, label="blue", subnets=[],
                                mtu=mtu, tunneled=False)  # fmt: skip
        return model.VIF(**{
            "id": port_id, "address": mac_of(number), "network": network, "type": "vhostuser",
            "details": details, "devname": ("tap" + port_id)[: model.NIC_NAME_LEN],
            "vnic_type": "normal", "profile": {}, "active": False, **changes,
        })  # fmt: skip

    def socket(self, port_id: str) -> Path:
        return self.switch.vhost / f"{port_id}.sock"

    def plug(self, server: Server, vif: model.VIF) -> None:
        with self._named(server):
            self.driver.plug(server.instance(), vif)

    def unplug(self, server: Server, vif: model.VIF) -> None:
        with self._named(server):
            self.driver.unplug(server.instance(), vif)

    def interface(self, server: Server, vif: model.VIF, virt_type: str = "qemu") -> Any:
        """Nova's configuration of the guest's interface; ``to_xml()`` is what libvirt gets."""
        with self._named(server):
            instance = server.instance()
            image = objects.ImageMeta.from_dict({"properties": {}})
            return self.driver.get_config(instance, vif, image, instance.flavor, virt_type)

    @staticmethod
    def _named(server: Server) -> Any:
        """The name is made of a row of the database, which there is not."""
        return mock.patch.object(objects.Instance, "name", new_callable=mock.PropertyMock,
                                 return_value=server.name)  # fmt: skip

# SPDX-License-Identifier: Apache-2.0
"""A host in a directory: PCI devices, groups, drivers; a kernel that reacts to writes."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from vif_uswitch.uplink import checks
from vif_uswitch.uplink.host import NOBODY, RootHost

NIC = "0000:03:00.0"
SECOND = "0000:03:00.1"
IDS_82576 = (0x8086, 0x10C9)
ETHERNET = 0x020000


class FakeHost(RootHost):
    """``fail`` names a file that cannot be written, or a program that fails."""

    def __init__(self, root: Path) -> None:
        super().__init__(str(root), self._run)
        self.fail = ""
        self.ip: dict[str, object] = {"address": [], "-4": [], "-6": []}
        self.commands: list[str] = []
        self.writes: list[tuple[str, str]] = []
        self.original: dict[str, str] = {}
        self.cdev = True
        self.refuses = False  # vfio-pci does not take anything
        self.put("/sys/bus/pci/drivers_probe")
        self.put("/dev/iommu")
        self.path("/dev/iommu").chmod(0o600)
        self.add_driver("vfio-pci")

    # ---- building ----

    def put(self, absolute: str, text: str = "") -> None:
        path = self.path(absolute)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="ascii")

    def symlink(self, absolute: str, target: str) -> None:
        path = self.path(absolute)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.symlink_to(target)

    def add_driver(self, name: str) -> None:
        self.put(f"/sys/bus/pci/drivers/{name}/unbind")

    def parameter(self, module: str, name: str, value: str) -> None:
        self.put(f"/sys/module/{module}/parameters/{name}", f"{value}\n")

    def nic(self, address: str = NIC, *, ids: tuple[int, int] = IDS_82576, driver: str = "igb",
            group: str = "7", interface: str = "eth1", pci_class: int = ETHERNET) -> None:
        where = f"/sys/bus/pci/devices/{address}"
        for name, value in (("vendor", f"{ids[0]:#06x}"), ("device", f"{ids[1]:#06x}"),
                            ("class", f"{pci_class:#08x}"), ("driver_override", "(null)"),
                            ("modalias", f"pci:v{ids[0]:08X}d{ids[1]:08X}")):
            self.put(f"{where}/{name}", f"{value}\n")
        if group:
            self.symlink(f"{where}/iommu_group", f"../../../kernel/iommu_groups/{group}")
            self.symlink(f"/sys/kernel/iommu_groups/{group}/devices/{address}",
                         f"../../../../bus/pci/devices/{address}")
        self.original[address] = driver
        if driver:
            self._attach(address, driver)
        if interface:
            self.interface(address, interface)

    def interface(self, address: str, name: str, below: str = "") -> None:
        self.path(f"/sys/bus/pci/devices/{address}/{below}/net/{name}").mkdir(parents=True)
        self.put(f"/sys/class/net/{name}/operstate", "up\n")
        self.put(f"/sys/class/net/{name}/speed", "1000\n")
        self.put(f"/sys/class/net/{name}/address", "52:54:00:00:00:01\n")

    def upper(self, interface: str, upper: str) -> None:
        self.symlink(f"/sys/class/net/{interface}/upper_{upper}", f"../{upper}")
        self.path(f"/sys/class/net/{upper}").mkdir(parents=True, exist_ok=True)

    def give_address(self, interface: str, local: str, prefix: int, scope: str = "global") -> None:
        links = self.ip["address"]
        assert isinstance(links, list)
        links.append({"ifname": interface, "addr_info": [
            {"family": "inet", "local": local, "prefixlen": prefix, "scope": scope}]})

    # ---- the kernel ----

    def write(self, absolute: str, text: str) -> None:
        if self.fail and absolute.endswith(self.fail):
            raise OSError(19, "No such device", absolute)
        super().write(absolute, text)
        self.writes.append((absolute, text))
        parts = absolute.split("/")
        if absolute.endswith("/driver_override"):
            self.put(absolute, f"{text.strip() or '(null)'}\n")
        elif parts[-1] == "unbind":
            self._detach(text)
        elif parts[-1] == "drivers_probe":
            override = self.text(f"/sys/bus/pci/devices/{text}/driver_override")
            if override == "(null)" and self.original[text]:
                self._attach(text, self.original[text])
            elif override == "vfio-pci" and not self.refuses:
                self._attach(text, override)

    def _attach(self, address: str, driver: str) -> None:
        self.add_driver(driver)
        self.symlink(f"/sys/bus/pci/devices/{address}/driver", f"../../drivers/{driver}")
        if driver == "vfio-pci":
            group = self.link(f"/sys/bus/pci/devices/{address}/iommu_group")
            self._node(f"/dev/vfio/{group}")
            if self.cdev:
                self.path(f"/sys/bus/pci/devices/{address}/vfio-dev/vfio0").mkdir(parents=True)
                self._node("/dev/vfio/devices/vfio0")

    def _node(self, absolute: str) -> None:
        self.put(absolute)
        self.path(absolute).chmod(0o600)

    def _detach(self, address: str) -> None:
        where = f"/sys/bus/pci/devices/{address}"
        if self.link(f"{where}/driver") == "vfio-pci":
            self.path(f"/dev/vfio/{self.link(f'{where}/iommu_group')}").unlink()
            if self.cdev:
                self.path(f"{where}/vfio-dev/vfio0").rmdir()
                self.path("/dev/vfio/devices/vfio0").unlink()
        self.path(f"{where}/driver").unlink()

    def gid(self) -> int:
        return os.getgid()

    def interfaces(self, address: str) -> list[str]:
        """They come and go with the kernel's driver."""
        return super().interfaces(address) if self.driver(address) not in ("", "vfio-pci") else []

    def _run(self, command: Sequence[str], user: int | None = None) -> str:
        if "vif_uswitch.uplink.checks" in command:
            assert user == NOBODY
            return checks.answer(self, command[3], command[4:])
        line = " ".join(command)
        self.commands.append(line)
        if self.fail and line.startswith(self.fail):
            raise ChildProcessError(f"command {line}: failed (1): it says so")
        if line == "modprobe vfio-pci":
            self.add_driver("vfio-pci")
        if command[0] != "ip":
            return ""
        key = "address" if "address" in command else command[2]
        return json.dumps(self.ip[key])

    # ---- looking ----

    def driver_of(self, address: str = NIC) -> str:
        return self.driver(address)

    def files(self) -> dict[str, str]:
        """Everything below /etc, and what the adapters are bound to: what undo must bring back."""
        etc = self.path("/etc")
        found = {str(path.relative_to(self.root)): path.read_text("utf-8")
                 for path in sorted(etc.rglob("*")) if path.is_file()}
        for address in self.names("/sys/bus/pci/devices"):
            where = f"/sys/bus/pci/devices/{address}"
            found[address] = f"{self.driver_of(address)} {self.text(f'{where}/driver_override')}"
        return found

# SPDX-License-Identifier: Apache-2.0
"""A host for the hook: settings, a directory of sockets, and a uswitchd that is scripted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.unit.scripted_uswitchd import Scripted

Run = Callable[..., int]  # operation, XML (bed.xml() if none) -> exit status

UUID = "4dea22b3-1d52-d8f3-2516-782e98ab3fa0"
MAC = "52:54:00:aa:bb:01"
NAME = f"{UUID}-525400aabb01"


class Bed:
    """A directory of sockets, the host's settings, and a uswitchd with a few ports."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.vhost = directory / "vhost"
        self.vhost.mkdir()
        self.control = str(directory / "c.sock")
        self.ports: list[dict[str, Any]] = []
        self.errors: dict[str, Exception] = {}  # by method
        self.reason = ""
        self.configure()

    def configure(self, more: str = "", deadline_s: float = 0.5) -> None:
        text = f"[libvirt]\ncontrol_socket = {self.control}\ndeadline_s = {deadline_s}\n{more}\n"
        (self.directory / "libvirt.conf").write_text(text)

    def configure_host(self, options: str) -> None:
        (self.directory / "libvirt.conf").write_text(f"[libvirt]\n{options}\n")

    def answer(self, method: str, params: dict[str, Any]) -> Any:
        if method in self.errors:
            raise self.errors[method]
        if method == "show":
            return {"daemon": {"vhost_socket_dir": str(self.vhost)}}
        if method == "port.list":
            return {"ports": self.ports, "next": ""}
        if method == "port.ensure":
            return {"port": {"link": "waiting", "reason": self.reason, **params["port"]},
                    "created": True, "changed": False}
        assert method == "port.delete"
        return {"existed": True}

    def uswitchd(self) -> Scripted:
        return Scripted(self.control, self.answer)

    def port(self, **more: Any) -> dict[str, Any]:
        return {"name": NAME, "path": f"{self.vhost}/a.sock", "mode": "server", "link": "up",
                "external_ids": {"owner": "libvirt", "domain-uuid": UUID}, **more}

    def xml(self, path: str = "", metadata: str = "") -> str:
        return (f"<domain><name>vm1</name><uuid>{UUID}</uuid><metadata>{metadata}</metadata>"
                f"<devices><interface type='vhostuser'><mac address='{MAC}'/>"
                f"<source type='unix' path='{path or self.vhost / 'a.sock'}' mode='server'/>"
                "</interface></devices></domain>")


def port_entry(attributes: str) -> str:
    return (f"<u:ports xmlns:u='urn:vif-uswitch:domain:1'><u:port mac='{MAC}' {attributes}/>"
            "</u:ports>")

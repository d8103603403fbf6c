# SPDX-License-Identifier: Apache-2.0
"""What the services agree on: addresses, secrets, and files that oslo.config reads.

Ports are the usual ones: the network namespace is ours alone.
"""

from __future__ import annotations

import configparser
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

CONTROLLER = "10.77.0.1"
HOSTS = {"host1": "10.77.0.11", "host2": "10.77.0.12"}
REGION = "RegionOne"
SECRET = "e2e"  # every password, in a network that nobody else is in
PHYSNET = "physnet1"
VLANS = (100, 199)

KEYSTONE = f"http://{CONTROLLER}:5000/v3"
GLANCE = f"http://{CONTROLLER}:9292"
NOVA = f"http://{CONTROLLER}:8774/v2.1"
NEUTRON = f"http://{CONTROLLER}:9696"
PLACEMENT = f"http://{CONTROLLER}:8778"
METADATA_PORT = 8775
RABBIT = f"rabbit://guest:guest@{CONTROLLER}:5672/"

DB_USER = "openstack"

Sections = Mapping[str, Mapping[str, object]]


@dataclass(frozen=True, slots=True)
class Place:
    """Where things are: state (memory, private), logs (kept), the environment's programs."""

    state: Path
    logs: Path
    checkout: Path
    prepared: bool = False  # the databases are there already
    environment: Path = Path(sys.prefix)

    def program(self, name: str) -> str:
        """A program of the environment that this interpreter belongs to."""
        return str(self.environment / "bin" / name)

    @property
    def search_path(self) -> dict[str, str]:
        """Environment of programs of ours that are not installed; they run in / like all."""
        return {"PYTHONPATH": str(self.checkout)}

    def shipped(self, service: str, name: str) -> str:
        """A configuration file that a service's own package has brought."""
        return str(self.environment / "etc" / service / name)

    def directory(self, name: str) -> Path:
        """A directory of the state, made on demand."""
        path = self.state / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def configuration(self, name: str, sections: Sections) -> Path:
        """Write ``name``.conf."""
        return write(self.directory("conf") / f"{name}.conf", sections)


def write(path: Path, sections: Sections) -> Path:
    """Write a file for oslo.config, or another one of that syntax."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    for section, options in sections.items():
        values = {key: str(value) for key, value in options.items()}
        if section == "DEFAULT":
            parser["DEFAULT"] = values
        else:
            parser[section] = values
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as stream:
        parser.write(stream)
    return path


def database(name: str) -> str:
    """The address of a service's database."""
    return f"mysql+pymysql://{DB_USER}:{SECRET}@{CONTROLLER}/{name}?charset=utf8mb3"


def login() -> dict[str, object]:
    """How a service logs in to keystone, for any section that takes keystoneauth's options."""
    return {
        "auth_type": "password",
        "auth_url": KEYSTONE,
        "username": "service",
        "password": SECRET,
        "project_name": "service",
        "user_domain_id": "default",
        "project_domain_id": "default",
        "region_name": REGION,
    }


def tokens() -> dict[str, object]:
    """[keystone_authtoken]: how a service checks the tokens of others."""
    return {**login(), "www_authenticate_uri": KEYSTONE, "service_token_roles_required": True}

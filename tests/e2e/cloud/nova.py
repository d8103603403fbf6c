# SPDX-License-Identifier: Apache-2.0
"""Nova: API, metadata, conductor and scheduler on the controller, a compute service on each host.

Stock in every way that concerns the switch: shared memory by ``file_backed_memory``, which has the
two conditions that doc/source/nova.rst names.
"""

from __future__ import annotations

from pathlib import Path

from tests.e2e.cloud import settings
from tests.e2e.cloud.controller import api, manage
from tests.e2e.cloud.host import Host
from tests.e2e.cloud.service import Service, run
from tests.e2e.cloud.settings import Place, Sections

PRIVSEP = ("nova_sys_admin", "vif_plug_ovs_privileged", "privsep_osbrick")
GUESTS_MIB = 2048


def _common(place: Place, host: str, address: str) -> dict[str, dict[str, object]]:
    return {
        "DEFAULT": {
            "host": host,
            "my_ip": address,
            "transport_url": settings.RABBIT,
            "state_path": "/var/lib/nova",
            "use_stderr": True,
            "debug": True,
            "service_down_time": 120,
        },
        "wsgi": {"api_paste_config": place.shipped("nova", "api-paste.ini")},
        "placement": settings.login(),
        "glance": {**settings.login(), "endpoint_override": settings.GLANCE},
        "neutron": {
            **settings.login(),
            "service_metadata_proxy": True,
            "metadata_proxy_shared_secret": settings.SECRET,
        },
        "service_user": {**settings.login(), "send_service_user_token": True},
        "cinder": settings.login(),
        "keystone_authtoken": settings.tokens(),
        "oslo_concurrency": {"lock_path": place.directory("lock")},
        "vnc": {"enabled": False},
    }


def controller(place: Place) -> list[Service]:
    """Makes the databases, and returns the controller's services."""
    databases = {name: settings.database(f"nova_{name}") for name in ("api", "cell0", "cell1")}
    common = _common(place, "controller", settings.CONTROLLER)
    confs = {}
    for cell in ("cell0", "cell1"):
        name = "nova" if cell == "cell0" else "nova-cell1"
        confs[cell] = place.configuration(name, {
            **common,
            "api_database": {"connection": databases["api"]},
            "database": {"connection": databases[cell]},
            "scheduler": {"workers": 1},
            "conductor": {"workers": 1},
        })  # fmt: skip
    _make_cells(place, confs["cell0"], confs["cell1"], databases)

    paste = place.shipped("nova", "api-paste.ini")
    environment = {
        "OS_NOVA_CONFIG_FILES": f"{paste};{confs['cell0']}",
        "OS_NOVA_DISABLE_EVENTLET_PATCHING": "true",
    }
    services = [
        api(place, "nova-api", "nova.wsgi.osapi_compute", 8774, environment),
        api(place, "nova-metadata", "nova.wsgi.metadata", settings.METADATA_PORT, environment),
    ]
    for name, conf in (("nova-conductor", confs["cell1"]), ("nova-scheduler", confs["cell0"])):
        services.append(_service(place, name, conf, place.logs / f"{name}.log", []))
    return services


def _make_cells(place: Place, cell0: Path, cell1: Path, databases: dict[str, str]) -> None:
    def step(conf: Path, *words: str) -> None:
        program = place.program("nova-manage")
        manage(place, [program, "--config-file", str(conf), *words], "nova-manage")

    step(cell0, "api_db", "sync")
    step(cell0, "cell_v2", "map_cell0", "--database_connection", databases["cell0"])
    step(cell0, "db", "sync")
    step(cell1, "db", "sync", "--local_cell")
    step(cell0, "cell_v2", "create_cell", "--name", "cell1", "--database_connection",
         databases["cell1"], "--transport-url", settings.RABBIT)  # fmt: skip


def discover_hosts(place: Place) -> None:
    """Map compute services that have come to the cell."""
    run([place.program("nova-manage"), "--config-file", place.directory("conf") / "nova.conf",
         "cell_v2", "discover_hosts"], place.logs / "nova-manage.log")  # fmt: skip


def compute(place: Place, host: Host, virt_type: str) -> Service:
    """nova-compute, with our os-vif plugin in its environment; it has no database."""
    common = _common(place, host.name, host.address)
    conf = place.directory("conf") / f"{host.name}-compute.conf"
    helper = f"{place.program('privsep-helper')} --config-file {conf}"
    sections: Sections = {
        **common,
        "DEFAULT": {
            **common["DEFAULT"],
            "compute_driver": "libvirt.LibvirtDriver",
            "ram_allocation_ratio": 1.0,
            "reserved_host_memory_mb": 0,
            "vif_plugging_timeout": 120,
            "vif_plugging_is_fatal": True,
            "shutdown_timeout": 2,  # the guests have no ear for a power button
        },
        "libvirt": {
            "virt_type": virt_type,
            "cpu_mode": "none",
            "images_type": "qcow2",
            "file_backed_memory": GUESTS_MIB,
            "inject_partition": -2,
            "live_migration_scheme": "tcp",
            "live_migration_inbound_addr": host.address,
        },
        **{name: {"helper_command": helper} for name in PRIVSEP},
    }
    settings.write(conf, sections)
    host.path("/var/lib/nova/instances").mkdir(parents=True)
    return _service(place, "nova-compute", conf, host.logs / "nova-compute.log", host.within)


def _service(place: Place, name: str, conf: Path, log: Path, within: list[str]) -> Service:
    return Service(name, [place.program(name), "--config-file", conf], log, within=within,
                   environment={"OS_NOVA_DISABLE_EVENTLET_PATCHING": "true"})  # fmt: skip

# SPDX-License-Identifier: Apache-2.0
"""Neutron: the server with our mechanism driver, our L2 agent, the stock other agents.

The tables are made from Neutron's models, in seconds; its migrations from the first release on take
minutes.
"""

from __future__ import annotations

import sys

from tests.e2e.cloud import settings
from tests.e2e.cloud.controller import api, manage
from tests.e2e.cloud.host import Host
from tests.e2e.cloud.service import Service, user
from tests.e2e.cloud.settings import Place

MAKE_TABLES = """
import sys, sqlalchemy
from neutron.db.migration.models import head
engine = sqlalchemy.create_engine(sys.argv[1])
head.get_metadata().create_all(engine)
"""
PRIVSEP = ("privsep", "privsep_dhcp_release", "privsep_namespace", "privsep_link",
           "privsep_conntrack", "privsep_ovs_vsctl")  # fmt: skip


def _default(place: Place, host: str) -> dict[str, object]:
    return {
        "host": host,
        "transport_url": settings.RABBIT,
        "state_path": place.directory("neutron") / host,
        "use_stderr": True,
        "debug": True,
    }


def server(place: Place) -> Service:
    """API and RPC."""
    database = settings.database("neutron")
    low, high = settings.VLANS
    conf = place.configuration("neutron", {
        "DEFAULT": {
            **_default(place, "controller"),
            "auth_strategy": "keystone",
            "core_plugin": "ml2",
            "service_plugins": "router",
            "api_paste_config": place.shipped("neutron", "api-paste.ini"),
            "notify_nova_on_port_status_changes": True,
            "notify_nova_on_port_data_changes": True,
            "send_events_interval": 1,
            "agent_down_time": 75,
        },
        "nova": settings.login(),
        "database": {"connection": database},
        "ml2": {
            "type_drivers": "flat,vlan,local",
            "tenant_network_types": "vlan",
            "mechanism_drivers": "uswitch",
            "extension_drivers": "port_security",
        },
        "ml2_type_vlan": {"network_vlan_ranges": f"{settings.PHYSNET}:{low}:{high}"},
        "ml2_type_flat": {"flat_networks": settings.PHYSNET},
        "oslo_concurrency": {"lock_path": place.directory("lock")},
        "keystone_authtoken": settings.tokens(),
    })  # fmt: skip
    manage(place, [sys.executable, "-c", MAKE_TABLES, database], "neutron-tables")
    return api(place, "neutron-server", "neutron.wsgi.api", 9696, {
        "OS_NEUTRON_CONFIG_DIR": str(conf.parent),
        "OS_NEUTRON_CONFIG_FILES": conf.name,
    })  # fmt: skip


def l2_agent(place: Place, host: Host) -> Service:
    """Ours, as an ordinary user who may use the switch's control socket."""
    state = place.directory(f"neutron/{host.name}-l2")
    state.chmod(0o777)
    conf = place.configuration(f"{host.name}-l2", {
        "DEFAULT": {**_default(place, host.name), "state_path": state},
        "agent": {"report_interval": 10, "polling_interval": 1},
        "oslo_concurrency": {"lock_path": state / "lock"},
    })  # fmt: skip
    return Service("neutron-uswitch-agent",
                   [place.program("neutron-uswitch-agent"), "--config-file", conf],
                   host.logs / "neutron-uswitch-agent.log",
                   who=user("neutron"), within=host.within)  # fmt: skip


def agents(place: Place, host: Host) -> list[Service]:
    """The stock agents of a network node; they make namespaces, so they are root.

    There is no sudo here, and their privileged helpers are root without CAP_KILL: what they start
    stays root as well, or they could not end it.
    """
    dnsmasq = place.directory("conf") / "dnsmasq.conf"
    dnsmasq.write_text("user=root\ngroup=root\n")
    default = {
        **_default(place, host.name),
        "interface_driver": "uswitch",
        "enable_isolated_metadata": True,
        "nova_metadata_host": settings.CONTROLLER,
        "metadata_proxy_shared_secret": settings.SECRET,
        "metadata_workers": 1,
        "metadata_proxy_user": "root",
        "metadata_proxy_group": "root",
        "dnsmasq_config_file": dnsmasq,
    }
    conf = place.directory("conf") / f"{host.name}-agents.conf"
    helper = f"{place.program('privsep-helper')} --config-file {conf}"
    settings.write(conf, {
        "DEFAULT": default,
        "agent": {"root_helper": "", "use_helper_for_ns_read": False, "report_interval": 10},
        "oslo_concurrency": {"lock_path": place.directory("lock")},
        **{name: {"helper_command": helper} for name in PRIVSEP},
    })  # fmt: skip
    return [Service(name, [place.program(name), "--config-file", conf], host.logs / f"{name}.log",
                    within=host.within)
            for name in ("neutron-dhcp-agent", "neutron-l3-agent", "neutron-metadata-agent")
            ]  # fmt: skip

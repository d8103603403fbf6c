# SPDX-License-Identifier: Apache-2.0
"""The cloud: what is started, in which order, and when it is complete.

``Cloud.build()`` reads like a table of contents.  Steps that wait for nothing of each other run
beside each other: with two processors, interpreters that start are what takes the time.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.e2e import CloudError
from tests.e2e.cloud import controller, database, libvirt, neutron, nova, prepared, rabbit, settings
from tests.e2e.cloud.host import Host, control_network
from tests.e2e.cloud.service import Service, listening, wait
from tests.e2e.cloud.settings import Place
from tests.e2e.cloud.switch import Switch, users

Say = Callable[[str], None]


class ComputeNode:
    """A host with its switch, its agent, libvirt and nova-compute."""

    def __init__(self, place: Place, name: str, virt_type: str) -> None:
        self.host = Host(name, place)
        self.name = name
        self._place, self._virt_type = place, virt_type

    def prepare(self) -> None:
        """Once the cable is laid."""
        self.switch = Switch(self._place, self.host)
        self.libvirtd = libvirt.service(self.host)
        self.agent = neutron.l2_agent(self._place, self.host)
        self.compute = nova.compute(self._place, self.host, self._virt_type)

    def start(self) -> None:
        """All of its services; agent and compute service are up when the controller says so."""
        self.switch.start()
        self.libvirtd.start()
        self.agent.start()
        wait(f"libvirt of {self.name}", lambda: libvirt.ready(self.host), 60, [self.libvirtd])
        self.compute.start()

    @property
    def services(self) -> list[Service]:
        """Everything that should be running."""
        return [*self.switch.helpers, self.switch.daemon, self.libvirtd, self.agent, self.compute]


class Cloud:
    """Controller and compute nodes; the first one is the network node, too."""

    def __init__(self, place: Place, say: Say, virt_type: str) -> None:
        self.place = place
        self.say = say
        control_network()
        users(place)
        self.nodes = [ComputeNode(place, name, virt_type) for name in settings.HOSTS]
        self.nodes[0].host.cable(self.nodes[1].host)
        for node in self.nodes:
            node.prepare()
        self.rabbit = rabbit.service(place)
        self.database = database.service(place)
        self.network_agents = neutron.agents(place, self.nodes[0].host)
        self._controller: list[Service] = []
        self.sdk: Any = None  # an openstack.connection.Connection as administrator

    def build(self) -> None:
        """From nothing to agents that are alive."""
        for one in (self.rabbit, self.database):
            one.start()
        self._make_controller()
        self._start_controller()
        self._fill_catalogue()
        with ThreadPoolExecutor() as pool:
            list(pool.map(ComputeNode.start, self.nodes))
        for one in self.network_agents:
            one.start()
        self.say("switches and libvirt run; waiting for agents and compute services")
        self.wait_agents()
        self._wait_computes()

    def _make_controller(self) -> None:
        """Tables, beside each other."""
        wait("MariaDB", database.ready, 60, [self.database])
        steps: list[Callable[[], Any]] = [
            lambda: nova.controller(self.place),
            lambda: controller.keystone(self.place),
            lambda: controller.glance(self.place),
            lambda: neutron.server(self.place),
            lambda: controller.placement(self.place),
        ]
        with ThreadPoolExecutor(max_workers=3) as pool:
            made = list(pool.map(lambda step: step(), steps))
        self._controller = [*made[0], *made[1:]]
        if self.place.prepared:
            self.say("databases are those that an earlier run has kept")
            return
        self.database.stop()
        prepared.keep(self.place.state)
        self.database.start()
        wait("MariaDB", database.ready, 60, [self.database])
        self.say("databases of keystone, placement, glance, neutron and nova are made")

    def _start_controller(self) -> None:
        wait("RabbitMQ", rabbit.ready, 120, [self.rabbit])
        for one in self._controller:
            one.start()
        ports = (5000, 9292, 8774, 8775, 8778, 9696)
        wait("the APIs", lambda: all(listening(settings.CONTROLLER, port) for port in ports),
             240, self._controller)  # fmt: skip
        self.say("APIs answer")

    def _fill_catalogue(self) -> None:
        self.sdk = connect("admin", "admin")
        identity = self.sdk.identity
        identity.create_project(name="service", domain_id="default")
        give_user(self.sdk, "service", "service", ("admin", "service"))
        for name, kind, url in (("nova", "compute", settings.NOVA),
                                ("neutron", "network", settings.NEUTRON),
                                ("placement", "placement", settings.PLACEMENT),
                                ("glance", "image", settings.GLANCE)):  # fmt: skip
            service = identity.create_service(name=name, type=kind)
            for interface in ("public", "internal"):
                identity.create_endpoint(service_id=service.id, interface=interface, url=url,
                                         region_id=settings.REGION)  # fmt: skip
        self.sdk = connect("admin", "admin")  # with the catalogue that is there now

    def wait_agents(self) -> None:
        """Until Neutron calls all agents alive."""
        wanted = len(self.network_agents) + len(self.nodes)

        def alive() -> bool:
            return sum(agent.is_alive for agent in self.sdk.network.agents()) >= wanted

        wait("all agents alive", alive, 180, self.services, pause=1)

    def _wait_computes(self) -> None:
        def up() -> bool:
            found = [one.state for one in self.sdk.compute.services(binary="nova-compute")]
            return found == ["up"] * len(self.nodes)

        wait("all compute services up", up, 180, self.services, pause=1)
        nova.discover_hosts(self.place)

    @property
    def services(self) -> list[Service]:
        """Everything that should be running."""
        everything = [self.rabbit, self.database, *self._controller, *self.network_agents]
        for node in self.nodes:
            everything += node.services
        return everything

    def node(self, name: str) -> ComputeNode:
        """The node of that host name."""
        return next(node for node in self.nodes if node.name == name)

    def stop(self) -> None:
        """Politely where that makes a log end well; the rest goes with its world."""
        for node in self.nodes:
            node.switch.daemon.stop(signal.SIGINT)


def connect(project: str, name: str) -> Any:
    """A connection of openstacksdk."""
    import openstack

    return openstack.connect(
        auth_url=settings.KEYSTONE, username=name, password=settings.SECRET, project_name=project,
        user_domain_id="default", project_domain_id="default", region_name=settings.REGION,
        load_yaml_config=False, load_envvars=False,
    )  # fmt: skip


def give_user(sdk: Any, project: str, name: str, roles: tuple[str, ...]) -> None:
    """A user with roles in a project; both are made if need be."""
    identity = sdk.identity
    where = identity.find_project(project) or identity.create_project(
        name=project, domain_id="default")  # fmt: skip
    who = identity.create_user(name=name, password=settings.SECRET, domain_id="default",
                               default_project_id=where.id)  # fmt: skip
    found = {role.name: role for role in identity.roles()}
    missing = [role for role in roles if role not in found]
    if missing:
        raise CloudError(f"keystone has no role {', '.join(missing)}")
    for role in roles:
        identity.assign_project_role_to_user(where, who, found[role])

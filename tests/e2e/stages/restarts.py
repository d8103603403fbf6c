# SPDX-License-Identifier: Apache-2.0
"""Everything that can end is ended, under running pings.

What only controls must not cost a single packet.  The dataplane carries them: its death costs some,
which the report says.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from tests.e2e.cloud import rabbit
from tests.e2e.cloud.cloud import ComputeNode
from tests.e2e.cloud.service import Service, wait
from tests.e2e.report import need
from tests.e2e.stages.flow import pings
from tests.e2e.stages.ports import attach
from tests.e2e.tenant import Tenant

HOST = "host1"
NETWORK_AGENTS = "DHCP and L3 agents are killed and started"


def restarts(tenant: Tenant) -> None:
    """One after the other; the guests never know."""
    cloud = tenant.cloud
    node = cloud.node(HOST)
    dhcp, l3, _ = cloud.network_agents

    harmless: list[tuple[str, Callable[[], None]]] = [
        ("nova-compute is killed and started", lambda: _compute(node)),
        ("neutron-uswitch-agent is killed and started", lambda: _agent(tenant, node.agent)),
        (NETWORK_AGENTS, lambda: _network_agents(tenant, dhcp, l3)),
        ("RabbitMQ is stopped and started", lambda: _broker(tenant)),
        ("uswitchd is stopped and started", lambda: node.switch.restart_daemon(signal.SIGTERM)),
        ("uswitchd is killed and started", lambda: node.switch.restart_daemon(signal.SIGKILL)),
    ]
    for what, act in harmless:
        with tenant.report.check(what) as row:
            with pings(tenant) as losses:
                act()
            row.detail = str(losses)
            # An L3 agent that starts replaces the rules of its routers, table by table: a packet
            # that is routed just then finds one half of them, and is not forwarded.
            lost = losses.by_switch if what == NETWORK_AGENTS else losses.any
            need(not lost, "nothing should be lost")
    with tenant.report.check("the dataplane is killed") as row:
        with pings(tenant) as losses:
            node.switch.kill_dataplane()
        row.detail = str(losses)
    with tenant.report.check("both are killed at once") as row:
        with pings(tenant) as losses:
            _both(node)
        row.detail = str(losses)
    with tenant.report.check("after all that the ports are as they were"):
        _unchanged(tenant)
    attach(tenant)


def _compute(node: ComputeNode) -> None:
    """It plugs every interface again when it starts."""
    plugged = _count(node.compute, "Plugging vif")
    node.compute.kill()
    node.compute.start()
    wait("nova-compute to plug its guests again",
         lambda: _count(node.compute, "Plugging vif") > plugged, 120, [node.compute])  # fmt: skip


def _agent(tenant: Tenant, *agents: Service) -> None:
    """Killed, started, and seen at work by Neutron."""
    before = {agent.id: agent.started_at for agent in tenant.cloud.sdk.network.agents()}
    for agent in agents:
        agent.kill()
        agent.start()

    def new() -> bool:
        now = {agent.id: agent.started_at for agent in tenant.cloud.sdk.network.agents()}
        return sum(now[key] != before.get(key) for key in now) >= len(agents)

    wait("Neutron to hear of the new agents", new, 120, agents, pause=1)


def _network_agents(tenant: Tenant, dhcp: Service, l3: Service) -> None:
    """Until the router is as it was, too."""
    done = "Finished a router update"
    before = _count(l3, done)
    _agent(tenant, dhcp, l3)
    wait("the L3 agent to go over its router", lambda: _count(l3, done) > before, 60, [l3])


def _broker(tenant: Tenant) -> None:
    """Gone for long enough to be missed."""
    broker = tenant.cloud.rabbit
    broker.stop()
    wait("RabbitMQ to be gone", lambda: not rabbit.ready(), 30)
    broker.start()
    wait("RabbitMQ", rabbit.ready, 120, [broker])
    reported = {agent.id: agent.last_heartbeat_at for agent in tenant.cloud.sdk.network.agents()}

    def again() -> bool:
        now = {agent.id: agent.last_heartbeat_at for agent in tenant.cloud.sdk.network.agents()}
        return all(now[key] != reported[key] for key in reported)

    wait("all agents to report again", again, 180, pause=1)


def _both(node: ComputeNode) -> None:
    """As when a host's memory runs out."""
    pid = node.switch.dataplane_pid()
    node.switch.daemon.kill()
    os.kill(pid, signal.SIGKILL)
    node.switch.daemon.start()
    node.switch.wait_ready()


def _unchanged(tenant: Tenant) -> None:
    for name in tenant.guests:
        port = tenant.cloud.sdk.network.get_port(tenant.port(name).id)
        need(port.status == "ACTIVE", f"the port of {name} is {port.status}")
        found = tenant.guests[name].node.switch.ports()[port.id]
        need(found["segment"] == port.network_id, f"{name} is in segment {found['segment']}")


def _count(service: Service, mark: str) -> int:
    return service.log.read_text(errors="replace").count(mark)

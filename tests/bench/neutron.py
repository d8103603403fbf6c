# SPDX-License-Identifier: Apache-2.0
"""What an agent costs neutron-server: its list of ports, beside its heartbeats.

The agent asks for all ports of its host now and then, for what it was not told
(``vif_uswitch/ml2/unnoticed.py``).  neutron-server's own code answers, in a
process of its own and on sqlite, as in ``tests/openstack``; so this runs in the
environment that has Neutron:

    build/openstack/newest/bin/python -m tests.bench --figure neutron-list

A value is the mean of some questions in a row, since processor time is counted
in hundredths of a second; of several values there are median, least and most.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import util
from multiprocessing.connection import Client
from statistics import median
from typing import Any

from testbed import TestbedError
from testbed.process import cpu_seconds
from tests.openstack.neutron_bed import ListeningNova, Neutron, Refused

from .figure import Figure, Limit, Setting

PORTS = (50, 500, 2000)
NETWORKS = 10
BATCH = 50  # ports in one call
VALUES, FEW_VALUES = 15, 5
QUESTIONS = 10  # for a value, where one takes some milliseconds
HEARTBEATS = 10  # of an agent from one list to the next
TIMES = 2  # as much as those together a list may cost
HOST = "host1"
ADMIN = {"is_admin": True, "user_id": "bench", "project_id": "bench", "roles": ["admin"]}
HEARTBEAT = "heartbeat"

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one question, in milliseconds: of neutron-server's processor, and of waiting."""

    cpu: float
    wall: float


class Agent:
    """As much of one as its questions are; nobody else asks neutron-server anything."""

    def __init__(self, neutron: Neutron) -> None:
        from neutron_lib.agent import topics

        self._topic = topics.PLUGIN
        self._neutron = neutron
        self._relay = Client(str(neutron.relay), "AF_UNIX")

    def __enter__(self) -> Agent:
        return self

    def __exit__(self, *_: object) -> None:
        """Nobody reads announcements any more, so none may come."""
        self._relay.close()

    def beat(self) -> None:
        _beat(self._neutron)

    def ports(self) -> list[Json]:
        listed: list[Json] = self._ask(
            "get_ports_by_vnic_type_and_host", vnic_type="normal", host=HOST
        )
        return listed

    def look_at(self, ports: Sequence[str]) -> None:
        """What a port costs that is not as it was: it is asked about, and reported."""
        who = {"agent_id": "bench", "host": HOST}
        self._ask("get_devices_details_list_and_failed_devices", devices=ports, **who)
        for port in ports:
            self._ask("update_device_up", device=port, **who)

    def _ask(self, method: str, **what: Any) -> Any:
        self._relay.send((0, (self._topic, None, method, ADMIN, what)))
        while True:
            number, good, answer = self._relay.recv()
            if number is None:  # an announcement
                continue
            if not good:
                raise TestbedError(f"neutron-server, asked for {method}: {answer}")
            return answer

    def costs(self, question: Callable[[], object], times: int, values: int) -> list[Cost]:
        question()  # what is done once
        return [self._cost(question, times) for _ in range(values)]

    def _cost(self, question: Callable[[], object], times: int) -> Cost:
        used, started = cpu_seconds(self._neutron.pid), time.monotonic()
        for _ in range(times):
            question()
        ms = 1e3 / times
        return Cost((cpu_seconds(self._neutron.pid) - used) * ms,
                    (time.monotonic() - started) * ms)  # fmt: skip


def listing(setting: Setting) -> Iterator[Figure]:
    """Processor time, waiting time and size of a list, for hosts with few ports and with many."""
    if util.find_spec("neutron") is None:
        raise TestbedError(
            "Neutron is not in this environment; after 'make openstack': "
            "build/openstack/newest/bin/python -m tests.bench"
        )
    with _server(setting) as neutron:
        networks = [_network(neutron, number) for number in range(NETWORKS)]
        made = 0
        for count in PORTS:
            _make_ports(neutron, networks, count - made)
            made = count
            with Agent(neutron) as agent:
                yield from _of_host(agent, count)
        with Agent(neutron) as agent:  # last: what it changes is announced for a while
            yield from _asked_about(agent, PORTS[0])


def _of_host(agent: Agent, count: int) -> Iterator[Figure]:
    ports = agent.ports()
    if [port["binding:vif_type"] for port in ports] != ["vhostuser"] * count:
        raise TestbedError(f"neutron-server lists {len(ports)} ports, not {count} that are bound")
    smallest = count == PORTS[0]
    if smallest:
        yield from _processor(HEARTBEAT, agent.costs(agent.beat, QUESTIONS, VALUES))
    costs = agent.costs(agent.ports, QUESTIONS if smallest else 1, VALUES)
    yield from _processor(f"list of {count} ports", costs,
                          Limit(TIMES * HEARTBEATS * count / PORTS[0], HEARTBEAT))  # fmt: skip
    yield Figure("neutron-server: until a list is there, median", f"{count} ports",
                 median(cost.wall for cost in costs), "ms")  # fmt: skip
    yield Figure("neutron-server: size of a list", f"{count} ports",
                 len(json.dumps(ports)) / 1024, "KiB")  # fmt: skip


def _asked_about(agent: Agent, count: int) -> Iterator[Figure]:
    names = [port["id"] for port in agent.ports()[:count]]
    yield from _processor(f"{count} ports asked about",
                          agent.costs(lambda: agent.look_at(names), 1, FEW_VALUES))  # fmt: skip


def _processor(subject: str, costs: Sequence[Cost], *limits: Limit) -> Iterator[Figure]:
    used = sorted(cost.cpu for cost in costs)
    for what, value in (("median", median(used)), ("least", used[0]), ("most", used[-1])):
        yield Figure(f"neutron-server: processor time, {what}", subject, value, "ms",
                     limits if what == "median" else ())  # fmt: skip


# ---- what is asked about ----


@contextmanager
def _server(setting: Setting) -> Iterator[Neutron]:
    nova = ListeningNova()
    neutron = Neutron(setting.directory, nova, agent_down_s=3600)
    try:
        neutron.wait()
        neutron.call("PUT", "/quotas/p1", {"quota": {"port": -1}})
        yield neutron
    except (AssertionError, Refused, OSError) as error:
        raise TestbedError(f"neutron-server: {error}") from error
    finally:
        neutron.close()
        nova.close()


def _beat(neutron: Neutron) -> None:
    neutron.heartbeat(HOST, interface_mappings={"physnet1": "up0"},
                      vhostuser_socket_dir="/run/uswitch/vhost")  # fmt: skip


def _network(neutron: Neutron, number: int) -> str:
    network = str(neutron.make("network", name="bench")["id"])
    neutron.call("POST", "/subnets", {"subnet": {
        "project_id": "p1", "network_id": network, "cidr": f"10.{number}.0.0/16",
        "ip_version": 4, "enable_dhcp": False,
    }})  # fmt: skip
    return network


def _make_ports(neutron: Neutron, networks: Sequence[str], count: int) -> None:
    """Bound to the host, as Nova has them bound."""
    ports = [{
        "project_id": "p1", "network_id": networks[number % len(networks)],
        "device_owner": "compute:nova", "device_id": "bench", "binding:host_id": HOST,
    } for number in range(count)]  # fmt: skip
    _beat(neutron)
    for first in range(0, count, BATCH):
        neutron.call("POST", "/ports", {"ports": ports[first : first + BATCH]})

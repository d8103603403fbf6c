# SPDX-License-Identifier: Apache-2.0
"""A guest moves to the other host and back, by Nova, under running pings."""

from __future__ import annotations

from functools import partial

from tests.e2e.cloud.cloud import ComputeNode
from tests.e2e.cloud.service import wait
from tests.e2e.report import need
from tests.e2e.stages.flow import Path, pings
from tests.e2e.tenant import Tenant

GUEST = "blue1"
MIGRATE_SECONDS = 240.0
PATHS = (Path("blue2", GUEST, "in its network"),
         Path("red1", GUEST, "over the router", routed=True))  # fmt: skip


def migration(tenant: Tenant) -> None:
    """There and back."""
    for target in ("host2", "host1"):
        with tenant.report.check(f"live migration to {target}") as row:
            with pings(tenant, PATHS) as losses:
                _move(tenant, target)
            row.detail = str(losses)
            _settled(tenant, target)


def _move(tenant: Tenant, target: str) -> None:
    guest = tenant.guests[GUEST]
    guest.close()
    tenant.operator.compute.live_migrate_server(guest.server, host=target, block_migration="auto")
    compute = tenant.operator.compute

    def over() -> bool:
        server = guest.server
        newest = next(iter(sorted(compute.server_migrations(server), key=lambda m: -m.id)), None)
        need(newest is None or newest.status not in ("error", "failed"),
             f"Nova's migration ended as {newest.status if newest else ''}")  # fmt: skip
        return server.compute_host == target and not server.task_state

    wait(f"{GUEST} on {target}", over, MIGRATE_SECONDS, pause=1)
    need(guest.server.status == "ACTIVE", f"{GUEST} is {guest.server.status}")
    guest.find()


def _has(node: ComputeNode, port: str, wanted: bool) -> bool:
    return (port in node.switch.ports()) == wanted


def _settled(tenant: Tenant, target: str) -> None:
    """One host has the port, the other one nothing of it."""
    port = tenant.port(GUEST).id
    for node in tenant.cloud.nodes:
        here = node.name == target
        wait(f"port {'on' if here else 'gone from'} {node.name}",
             partial(_has, node, port, here), 60)  # fmt: skip
        socket = node.host.path(f"/run/uswitch/vhost/{port}.sock")
        need(socket.exists() or not here, f"{node.name}: {socket.name} is missing")
        need(here or not socket.exists(), f"{node.name}: {socket.name} is left")
    need(tenant.guests[GUEST].must("echo alive") == "alive", "the guest does not answer")

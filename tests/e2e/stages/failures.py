# SPDX-License-Identifier: Apache-2.0
"""uswitchd is away when Nova plugs: a clear message, nothing left, and the next attempt works."""

from __future__ import annotations

import re
import signal

from tests.e2e.cloud.service import wait
from tests.e2e.report import need
from tests.e2e.stages.ports import GUEST, attach
from tests.e2e.tenant import Tenant

# What an operator finds in nova-compute's log: which port, why, what to do.
SAID = r"ERROR [^\n]*cannot plug port {port} [^\n]*: (control socket [^\n]*Start uswitchd[^\n]*)"


def failures(tenant: Tenant) -> None:
    """The plug of a second interface, with nobody to plug it."""
    guest = tenant.guests[GUEST]
    switch = guest.node.switch
    network = tenant.user.network
    with tenant.report.check("a plug while uswitchd is away fails with a reason in the log") as row:
        port = network.create_port(network_id=tenant.networks["blue"].id)
        switch.daemon.stop(signal.SIGTERM)
        try:
            refused = _attach(tenant, port.id)
        finally:
            switch.daemon.start()
            switch.wait_ready()
            wait("the agent to tell Neutron", lambda: not _problem(tenant, guest.node.name), 60)
        need(refused, "Nova says that it is attached")
        log = guest.node.compute.log.read_text(errors="replace")
        found = re.search(SAID.format(port=port.id), log)
        need(found, f"nova-compute's log does not say why port {port.id} cannot be plugged")
        assert found is not None
        row.detail = found[1]
        wait("Nova to let go of it", lambda: not network.get_port(port.id).device_owner, 60)
        need(port.id not in switch.ports(), "the switch has the port")
        network.delete_port(port.id)
    attach(tenant)


def _problem(tenant: Tenant, host: str) -> str:
    """What the agent of a host says of its switch; with that Neutron binds no port there."""
    agents = tenant.cloud.sdk.network.agents(host=host, binary="neutron-uswitch-agent")
    return str(next(iter(agents)).configuration.get("uswitchd_problem") or "")


def _attach(tenant: Tenant, port: str) -> str:
    """What Nova refuses with, or nothing if it does not."""
    try:
        server = tenant.guests[GUEST].server
        tenant.operator.compute.create_server_interface(server, port_id=port)
    except Exception as error:  # HttpException of a client that need not be installed here
        return str(error).partition("\n")[0]
    return ""

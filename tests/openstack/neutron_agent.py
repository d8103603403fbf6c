# SPDX-License-Identifier: Apache-2.0
"""``neutron-uswitch-agent`` behind the relay.  A program.

    neutron_agent.py RELAY --config-file FILE

The real main(), its signals and its child process; the relay begins in that
child, which is where oslo.service runs the agent.
"""

from __future__ import annotations

import os
import sys

from tests.openstack.neutron_bed import COMPARE
from tests.openstack.neutron_relay import AgentEnd
from vif_uswitch.ml2 import agent, unnoticed

ENDS: list[AgentEnd] = []


def main(relay: str) -> None:
    unnoticed.COMPARE_PASSES = int(os.environ.get(COMPARE, unnoticed.COMPARE_PASSES))
    sys.argv = [agent.BINARY, *sys.argv[2:]]
    os.register_at_fork(after_in_child=lambda: ENDS.append(AgentEnd(relay)))
    agent.main()


if __name__ == "__main__":
    main(sys.argv[1])

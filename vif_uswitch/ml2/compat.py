# SPDX-License-Identifier: Apache-2.0
"""Everything of ``neutron`` itself that we use, in one place.

``neutron_lib`` is promised to out-of-tree drivers; modules of ``neutron`` are
not, although every agent-based driver needs them.  When a release moves one,
this file is where it shows.  Both ends use it: the agent loads nearly all of
it anyway.

``import neutron`` comes first: it selects oslo.service's backend of threads.
Whoever imports ``oslo_service.service`` before gets eventlet's, in which an
unpatched agent never sends a heartbeat.
"""

from __future__ import annotations

import neutron  # noqa: F401  (first, see above)
from neutron.agent import rpc as agent_rpc
from neutron.api.rpc.handlers import securitygroups_rpc
from neutron.common import config as common_config
from neutron.plugins.ml2.drivers import mech_agent
from neutron.plugins.ml2.drivers.agent import _agent_manager_base as manager_base
from neutron.plugins.ml2.drivers.agent import _common_agent as common_agent
from neutron.plugins.ml2.drivers.agent import config as agent_config

CommonAgentLoop = common_agent.CommonAgentLoop
CommonAgentManagerBase = manager_base.CommonAgentManagerBase
CommonAgentManagerRpcCallBackBase = manager_base.CommonAgentManagerRpcCallBackBase
SecurityGroupAgentRpcCallbackMixin = securitygroups_rpc.SecurityGroupAgentRpcCallbackMixin
SimpleAgentMechanismDriverBase = mech_agent.SimpleAgentMechanismDriverBase

__all__ = [
    "CommonAgentLoop",
    "CommonAgentManagerBase",
    "CommonAgentManagerRpcCallBackBase",
    "SecurityGroupAgentRpcCallbackMixin",
    "SimpleAgentMechanismDriverBase",
    "agent_config",
    "agent_rpc",
    "common_config",
]

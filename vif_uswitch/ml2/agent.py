# SPDX-License-Identifier: Apache-2.0
"""``neutron-uswitch-agent``: the L2 agent of a host with the userspace switch.

    main      configuration, one process, signals (oslo.service)
    loop      passes over the host's ports: seen, asked about, wired, reported
    callbacks marks from neutron-server
    manager   the loop's questions
    wirer     the agent's memory;  wiring, guard: its policy
    plugger   ports that nobody else plugs;  plugging: its policy
    unnoticed ports that changed while messages were lost
    switch    the control socket of uswitchd

It needs no root and no capability: it talks to uswitchd and to the message bus.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from oslo_config import cfg
from oslo_log import log as logging

from vif_uswitch.client import Client
from vif_uswitch.exceptions import InvalidInput, USwitchError
from vif_uswitch.ml2 import binding, conf
from vif_uswitch.ml2.compat import common_config
from vif_uswitch.ml2.loop import UswitchAgentLoop
from vif_uswitch.ml2.manager import UswitchManager
from vif_uswitch.ml2.switch import Switch
from vif_uswitch.ml2.wirer import Wirer

# After compat: it has chosen oslo.service's backend.
from oslo_service import service  # isort: skip

LOG = logging.getLogger(__name__)
BINARY = "neutron-uswitch-agent"


def main() -> None:
    configure(sys.argv[1:])
    try:
        agent = build(cfg.CONF)
    except USwitchError as error:
        LOG.error("%s", error)
        sys.exit(f"{BINARY}: {error}")
    launcher = service.launch(cfg.CONF, agent, restart_method="mutate")
    sys.exit(launcher.wait())


def configure(arguments: Sequence[str]) -> None:
    register(cfg.CONF)
    common_config.register_common_config_options()
    common_config.init(arguments)
    common_config.setup_logging()


def register(config: cfg.ConfigOpts) -> None:
    conf.register_agent_opts(config)
    config.set_default("polling_interval", conf.POLLING_INTERVAL_S, "AGENT")


def build(config: cfg.ConfigOpts) -> UswitchAgentLoop:
    """The agent as configured, not started; raises USwitchError."""
    options = config[conf.AGENT_GROUP]
    _check_firewall(config)
    client = Client(options.control_socket, timeout_s=options.timeout)
    wirer = Wirer(Switch(client), conf.parse_mappings(options.physical_interface_mappings))
    if not wirer.switch.look():
        LOG.warning("Starting nevertheless; ports are wired when uswitchd answers")
    return UswitchAgentLoop(
        UswitchManager(wirer, config.host, options.vhost_socket_dir),
        config.AGENT.polling_interval,
        config.AGENT.quitting_rpc_timeout,
        binding.AGENT_TYPE,
        BINARY,
    )


def _check_firewall(config: cfg.ConfigOpts) -> None:
    driver = config.SECURITYGROUP.firewall_driver
    if driver not in (None, "", "noop", "neutron.agent.firewall.NoopFirewallDriver"):
        raise InvalidInput(
            "[securitygroup] firewall_driver", driver, "cannot filter in the switch",
            "Set it to noop for this agent: anti-spoofing is the switch's own; rules of security"
            " groups are not enforced yet.",
        )  # fmt: skip

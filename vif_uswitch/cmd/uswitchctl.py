# SPDX-License-Identifier: Apache-2.0
"""``uswitchctl``: the operator's view of uswitchd.

Standard library only, through ``client.py``.  An error is one line on
standard error: what is wrong, which value, what to do; never a traceback.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from vif_uswitch.client import Client
from vif_uswitch.cmd import (
    domain,
    domain_change,
    ending,
    port,
    port_show,
    show,
    stats,
    tables,
    uplink,
    worker,
)
from vif_uswitch.cmd.doctor import command as doctor
from vif_uswitch.cmd.parsing import Commands, control_socket

GROUPS = {
    "port": "ports: add, set, delete, list, show",
    "uplink": "network adapters: add, list, show, delete",
    "segment": "broadcast domains: add, delete, list, show",
    "domain": "libvirt's guests: list, check, attach, detach, convert, watch",
    "fdb": "addresses the switch knows: list, flush",
    "worker": "the dataplane's threads: list, show",
}


def build() -> Commands:
    commands = Commands()
    for name, text in GROUPS.items():
        commands.group(name, text)
    for module in (show, port, port_show, uplink, tables, worker, domain, domain_change, stats,
                   doctor):  # fmt: skip
        module.register(commands)
    return commands


def main(argv: Sequence[str] | None = None) -> int:
    args = build().parser.parse_args(argv)

    def work() -> int:
        with Client(control_socket(args), args.timeout) as client:
            return int(args.handler(client, args))

    return ending.run("uswitchctl", work)


if __name__ == "__main__":
    sys.exit(main())

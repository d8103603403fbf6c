# SPDX-License-Identifier: Apache-2.0
"""``uswitchctl``: the operator's view of uswitchd.

Standard library only, through ``client.py``.  An error is one line on
standard error: what is wrong, which value, what to do; never a traceback.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from vif_uswitch.client import Client
from vif_uswitch.cmd import port, port_show, show, stats, tables, uplink, worker
from vif_uswitch.cmd.output import plain
from vif_uswitch.cmd.parsing import Commands
from vif_uswitch.exceptions import USwitchError

GROUPS = {
    "port": "ports: add, set, delete, list, show",
    "uplink": "network adapters: add, list, show, delete",
    "segment": "broadcast domains: add, delete, list, show",
    "fdb": "addresses the switch knows: list, flush",
    "worker": "the dataplane's threads: list, show",
}


def build() -> Commands:
    commands = Commands()
    for name, text in GROUPS.items():
        commands.group(name, text)
    for module in (show, port, port_show, uplink, tables, worker, stats):
        module.register(commands)
    return commands


def main(argv: Sequence[str] | None = None) -> int:
    args = build().parser.parse_args(argv)
    try:
        with Client(args.socket, args.timeout) as client:
            status = args.handler(client, args)
        sys.stdout.flush()
        return int(status)
    except USwitchError as error:
        print(f"uswitchctl: {plain(str(error))}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has seen enough, as in "uswitchctl fdb list | head".
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        print(f"uswitchctl: a defect of uswitchctl itself: {error!r}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())

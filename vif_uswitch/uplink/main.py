# SPDX-License-Identifier: Apache-2.0
"""``uswitch-uplink``: gives network adapters to the switch, and back to the kernel.

The only program of this project that needs root.  It runs when an operator (or
systemd, at boot) starts it, does one thing and ends; it has no socket, and
reads nothing that a guest or the network could have written.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from vif_uswitch.cmd.output import plain
from vif_uswitch.exceptions import Forbidden, USwitchError
from vif_uswitch.uplink import binding, listing
from vif_uswitch.uplink.root import GROUP, RootHost
from vif_uswitch.version import version

_ADDRESS = "PCI address, for example 0000:03:00.0; several are taken together or not at all"
_BIND = f"""\
Takes adapters from their kernel drivers and binds them to vfio-pci, so that members of
group {GROUP} may open them: now, and again at each start of the host.

Refused are adapters that carry the default route or an address, or are part of a bridge,
bond or VLAN; that have virtual functions; that no driver of the switch knows; that no
IOMMU confines; and those whose IOMMU group has other devices in use. There is no way to
insist. When a step fails, all that was done before it is undone.
"""
_UNBIND = """\
Gives adapters back to their kernel drivers and forgets them. Refused while a process has
the adapter open. Addresses and other settings of the interface come back only if the
host's network configuration has them.
"""
_RESTORE = """\
Binds all adapters again that were bound before and not unbound since. Started by
uswitch-uplink.service at boot, and when such an adapter appears.
"""


def build() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="uswitch-uplink", allow_abbrev=False,
        description="Gives network adapters to the switch (vfio-pci), and back to the kernel.",
        epilog="Exit status: 0 done, 1 refused or failed, 2 wrong usage, 4 not found.",
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=f"uswitch-uplink {version()}")
    commands = parser.add_subparsers(metavar="COMMAND", dest="command", required=True)
    text = "list the host's network adapters, whether they may be taken, and why not"
    listed = commands.add_parser("list", help=text, description=text, allow_abbrev=False)
    listed.add_argument("-f", "--format", choices=("table", "json"), default="table",
                        help="output format (default: table)")  # fmt: skip
    for name, help_, description in (
        ("bind", "take adapters from the kernel for the switch (root)", _BIND),
        ("unbind", "give adapters back to the kernel (root)", _UNBIND),
        ("restore", "bind again what was bound before a restart (root)", _RESTORE),
    ):
        command = commands.add_parser(
            name, help=help_, description=description, allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        if name != "restore":
            command.add_argument("address", nargs="+", metavar="ADDRESS", help=_ADDRESS)
    return parser


def main(argv: Sequence[str] | None = None, host: RootHost | None = None) -> int:
    args = build().parse_args(argv)
    try:
        status = _run(args, host or RootHost())
        sys.stdout.flush()
        return status
    except USwitchError as error:
        _complain(error)
        return error.exit_status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        print(f"uswitch-uplink: {plain(str(error))}", file=sys.stderr)
        return 1


def _run(args: argparse.Namespace, host: RootHost) -> int:
    if args.command == "list":
        found = listing.rows(host)
        print(listing.as_json(found) if args.format == "json" else listing.as_table(found))
        return 0
    if os.geteuid() != 0:
        raise Forbidden("uswitch-uplink", args.command, "changes the host, which only root may")
    if args.command == "restore":
        said, errors = binding.restore(host)
        for error in errors:
            _complain(error)
        status = 1 if errors else 0
    else:
        change = binding.bind if args.command == "bind" else binding.unbind
        said, status = change(host, args.address), 0
    for line in said:
        print(plain(line))
    return status


def _complain(error: USwitchError) -> None:
    print(f"uswitch-uplink: {plain(str(error))}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: Apache-2.0
"""``uswitch-uplink`` without root's rights: list, help, version, and what is wrong with a command.

``main.py`` is the program that starts; it does well-formed changes itself, and leaves everything
else to this one.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from vif_uswitch.cmd import ending
from vif_uswitch.exceptions import Forbidden, InvalidInput
from vif_uswitch.uplink import listing
from vif_uswitch.uplink.host import GROUP, Host
from vif_uswitch.uplink.main import ADDRESS
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


def main(argv: Sequence[str] | None = None, host: Host | None = None) -> int:
    parser = build()
    args = parser.parse_args(argv)

    def work() -> int:
        if args.command == "list":
            found = listing.rows(host or Host())
            print(listing.as_json(found) if args.format == "json" else listing.as_table(found))
            return 0
        for address in getattr(args, "address", ()):
            if not ADDRESS.fullmatch(address.lower()):
                raise InvalidInput(
                    "PCI address", address, "is malformed: it looks like 0000:03:00.0",
                    "'uswitch-uplink list' shows the adapters of this host.",
                )  # fmt: skip
        if "--" in (sys.argv[1:] if argv is None else argv):
            parser.error("leave out '--': no address begins with '-'")
        raise Forbidden("uswitch-uplink", args.command, "changes the host, which only root may")

    return ending.run("uswitch-uplink", work)


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: Apache-2.0
"""The command line's grammar: ``uswitchctl [options] OBJECT [ACTION] [options]``.

Options that concern the connection may stand before or after the command.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from vif_uswitch.client import (
    DEFAULT_SOCKET,
    DEFAULT_TIMEOUT_S,
    SOCKET_VARIABLE,
    Client,
    default_socket,
)
from vif_uswitch.version import version

if TYPE_CHECKING:
    from vif_uswitch.client import Whose

Handler = Callable[[Client, argparse.Namespace], int]


def _timeout(argument: str) -> float:
    try:
        value = float(argument)
    except ValueError:
        value = 0.0
    if not 0 < value <= 86400:
        raise argparse.ArgumentTypeError(f"{argument!r} is no number of seconds above 0")
    return value


def seconds(least: float, most: float, words: str) -> Callable[[str], float]:
    """The type of an option, for argparse; ``words`` complete "is no number of seconds"."""

    def parse(argument: str) -> float:
        try:
            value = float(argument)
        except ValueError:
            value = least - 1
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{argument!r} is no number of seconds{words}")
        return value

    return parse


def _connection_options(parser: argparse.ArgumentParser, *, inner: bool) -> None:
    """``inner``: after the command, where absence must not overwrite what stood before it."""
    parser.add_argument(
        "--socket", metavar="PATH", default=argparse.SUPPRESS if inner else None,
        help=argparse.SUPPRESS if inner else
        f"control socket of uswitchd (default: ${SOCKET_VARIABLE}, else {DEFAULT_SOCKET} if you may"
        " use it, else that of --user)",
    )  # fmt: skip
    for name, text in (
        ("system", "the switch of this host"),
        ("user", "your own switch, of uswitchd --user"),
    ):
        parser.add_argument(
            f"--{name}", action="store_true", default=argparse.SUPPRESS if inner else False,
            help=argparse.SUPPRESS if inner else text,
        )  # fmt: skip
    parser.add_argument(
        "--timeout", metavar="SECONDS", type=_timeout,
        default=argparse.SUPPRESS if inner else DEFAULT_TIMEOUT_S,
        help=argparse.SUPPRESS if inner else
        f"how long to wait for an answer (default: {DEFAULT_TIMEOUT_S:g})",
    )  # fmt: skip


def control_socket(args: argparse.Namespace) -> str:
    """The socket that the command line means, by what stood before and after the command.

    Where nobody says whose switch, a command may know it by its other options (``whose``).
    """
    chosen = [f"--{name}" for name in ("socket", "system", "user") if getattr(args, name)]
    if len(chosen) > 1:
        args.parser.error(f"{' and '.join(chosen)} exclude each other")
    if args.socket:
        return str(args.socket)
    whose: Whose | None = "user" if args.user else "system" if args.system else None
    if whose is None and "whose" in args and not os.environ.get(SOCKET_VARIABLE):
        whose = args.whose(args)
    return default_socket(whose)


class Commands:
    """Collects the commands; each module of this package registers its own."""

    def __init__(self) -> None:
        self.parser = argparse.ArgumentParser(
            prog="uswitchctl",
            description="Shows and changes what uswitchd switches on this host.",
            epilog="Exit status: 0 done, 1 refused or failed, 2 wrong usage, 3 uswitchd not"
            " reachable, 4 not found, 5 timed out.",
            allow_abbrev=False,
        )
        self.parser.add_argument("--version", action="version", version=f"uswitchctl {version()}")
        _connection_options(self.parser, inner=False)
        self._objects = self.parser.add_subparsers(metavar="COMMAND", required=True)
        self._actions: dict[str, argparse._SubParsersAction[argparse.ArgumentParser]] = {}

    def group(self, name: str, text: str) -> None:
        """An object that has actions, for example ``port``."""
        parser = self._objects.add_parser(name, help=text, description=text, allow_abbrev=False)
        self._actions[name] = parser.add_subparsers(metavar="ACTION", required=True)

    def add(
        self, group: str, action: str, handler: Handler, text: str
    ) -> argparse.ArgumentParser:
        """One command; ``group`` is "" for those of one word."""
        where = self._actions[group] if group else self._objects
        parser = where.add_parser(action, help=text, description=text, allow_abbrev=False)
        _connection_options(parser, inner=True)
        parser.set_defaults(handler=handler, parser=parser)
        return parser

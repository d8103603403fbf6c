# SPDX-License-Identifier: Apache-2.0
"""``uswitch-xdp``: AF_XDP sockets of interfaces that the kernel keeps, for the switch.

Root runs ``attach`` and ``detach`` for an interface.  ``serve`` is started by
systemd for one connection at uswitch-xdp.socket, answers one request for the
sockets of an interface that was attached, and ends.  It reads nothing that a
guest or the network could have written.

The switch needs new sockets whenever its dataplane was started anew, so they
cannot be handed over once and for all.
"""

from __future__ import annotations

import argparse
import array
import errno
import json
import os
import pwd
import re
import socket
import struct
import sys
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from typing import Any

from vif_uswitch.cmd.output import plain
from vif_uswitch.exceptions import Conflict, Forbidden, InvalidInput, NotFound, USwitchError
from vif_uswitch.uplink import checks
from vif_uswitch.uplink.host import Host, RootHost
from vif_uswitch.uplink.xdp_program import Program
from vif_uswitch.version import version

ALLOWED = "/etc/uswitch/xdp.d"  # a file for each interface: root's list, "force" inside or nothing
USER = "uswitch"
AF_XDP = 44
REQUEST_MAX = 256
QUEUES_MAX = 8  # US_QUEUES_MAX
REQUEST_S = 5.0
# Linux before 6.2 takes a socket into the map only when the dataplane has set it up.
PLACE_TRIES = 1000
PLACE_PAUSE_S = 0.01
Waiting = tuple[int, socket.socket]  # a queue and its socket
_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid

_NAME = re.compile(r"(?!\.\.?$)[^\s/:%\x00-\x1f\x7f-\uffff]{1,15}")
_ABOUT = """\
Lets the switch use network interfaces that the kernel keeps (AF_XDP). 'attach' puts an XDP
program on one (native if its driver can, else generic) and allows user uswitch to ask for its
sockets: while the switch has some, all that arrives goes to the switch, else to the kernel as
before. Refused for interfaces that carry the default route or an address, or are part of a
bridge, bond or VLAN. 'detach' takes the program off and forgets the interface. 'serve' answers
one request on standard input, for systemd. Exit status: 0 done, 1 refused or failed, 2 wrong
usage, 4 not found.
"""


def check_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise InvalidInput("interface", name, "is no name of a network interface", "See: ip link")
    return name


def ifindex_of(name: str) -> int:
    try:
        return socket.if_nametoindex(check_name(name))
    except OSError as error:
        raise NotFound("interface", name, "does not exist in this network namespace",
                       "See: ip link") from error  # fmt: skip


def refuse_if_used(host: Host, name: str) -> None:
    """The questions that are asked for an adapter as well: this host keeps its network."""
    found = checks.used_by_ip(host, (name,), checks.read_network(host))
    if found:
        raise Conflict("interface", name, f"is in use: {'; '.join(one.why for one in found)}",
                       f"{found[0].todo} If you know better: uswitch-xdp attach --force"
                       f" {name}")  # fmt: skip


def program_of(name: str) -> Program:
    index = ifindex_of(name)
    return Program.find(index, name) or Program.attach(index, name)


def attach(host: RootHost, name: str, force: bool) -> str:
    ifindex_of(name)
    if not force:
        refuse_if_used(host, name)
    with closing(program_of(name)) as program:
        host.store(f"{ALLOWED}/{name}", "force\n" if force else "")
        how = "" if program.mode == "native" else " (its driver has no native XDP: slower)"
        return f"{name}: {program.mode} XDP{how}. Undo: uswitch-xdp detach {name}"


def detach(host: Host, name: str) -> str:
    known = check_name(name) in host.names(ALLOWED)
    host.path(f"{ALLOWED}/{name}").unlink(missing_ok=True)
    program = None
    with suppress(NotFound):
        program = Program.find(ifindex_of(name), name)
    if program:
        with closing(program):
            program.detach()
    elif not known:
        raise NotFound("interface", name, "was not attached", f"See: ls {ALLOWED}")
    return f"{name}: is the kernel's again"


# ---- one request ----


def check_peer(peer: socket.socket) -> None:
    _pid, uid, _gid = _CREDENTIALS.unpack(
        peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    )
    allowed = {0}
    with suppress(KeyError):
        allowed.add(pwd.getpwnam(USER).pw_uid)
    if uid not in allowed:
        raise Forbidden("user", uid, f"gets no AF_XDP sockets: only {USER} and root do")


def read_request(peer: socket.socket) -> tuple[str, int]:
    """{"ifname": "eth1", "queues": 2}"""
    data = peer.recv(REQUEST_MAX + 1)
    try:
        request: Any = json.loads(data) if len(data) <= REQUEST_MAX else None
        name, queues = request["ifname"], request["queues"]
    except (ValueError, TypeError, KeyError, RecursionError):
        name = queues = None
    if type(name) is not str or type(queues) is not int or not 1 <= queues <= QUEUES_MAX:
        raise InvalidInput("request", ascii(data[:40]), 'is not {"ifname": NAME, "queues": 1..8}')
    return check_name(name), queues


def open_sockets(host: Host, name: str, queues: int) -> tuple[Program, list[socket.socket]]:
    if name not in host.names(ALLOWED):
        raise Forbidden("interface", name, "was not given to the switch",
                        f"As root: uswitch-xdp attach {name}")  # fmt: skip
    if host.text(f"{ALLOWED}/{name}") != "force":
        refuse_if_used(host, name)
    have = sum(one.startswith("rx-") for one in host.names(f"/sys/class/net/{name}/queues"))
    if 0 < have < queues:
        raise InvalidInput("queues", queues, f"are more than {name} has ({have})",
                           f"See: ethtool -l {name}; or ask for {have}.")  # fmt: skip
    return program_of(name), [socket.socket(AF_XDP, socket.SOCK_RAW, 0) for _ in range(queues)]


def place(program: Program, waiting: Sequence[Waiting]) -> list[Waiting]:
    """Sockets into the map; those that must be set up before are left."""
    return [(queue, one) for queue, one in waiting if not program.place(queue, one.fileno())]


def serve(host: Host, peer: socket.socket) -> None:
    peer.settimeout(REQUEST_S)
    try:
        check_peer(peer)
        program, sockets = open_sockets(host, *read_request(peer))
        # Before the answer where that can be: whoever has the sockets gets the frames.
        waiting = place(program, list(enumerate(sockets)))
    except (USwitchError, OSError) as error:
        refused = (error if isinstance(error, USwitchError)
                   else USwitchError("AF_XDP", why=str(error)))  # fmt: skip
        _complain(refused)
        said = {"code": refused.code, "message": str(refused), "data": refused.data()}
        peer.send(json.dumps({"error": said}).encode())
        return
    with closing(program):
        answer = json.dumps({"mode": program.mode, "ifindex": program.ifindex}).encode()
        fds = array.array("i", [one.fileno() for one in sockets])
        peer.sendmsg([answer], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
        peer.close()
        for _ in range(PLACE_TRIES):
            if not waiting:
                return
            time.sleep(PLACE_PAUSE_S)
            waiting = place(program, waiting)
    raise USwitchError("sockets", len(waiting), "were not set up in time",
                       "Frames stay with the kernel.")  # fmt: skip


# ---- command line ----


def run(arguments: Sequence[str] | None, host: RootHost) -> None:
    parser = argparse.ArgumentParser(prog="uswitch-xdp", allow_abbrev=False, description=_ABOUT)
    parser.add_argument("--version", action="version", version=f"uswitch-xdp {version()}")
    commands = parser.add_subparsers(metavar="COMMAND", dest="command", required=True)
    commands.add_parser("serve", help="answer one request on standard input, a socket (systemd)")
    for name, help_ in (("attach", "let the switch use an interface (root)"),
                        ("detach", "give it back to the kernel (root)")):  # fmt: skip
        command = commands.add_parser(name, help=help_, allow_abbrev=False)
        command.add_argument("ifname", metavar="IFNAME", help="network interface, see: ip link")
        if name == "attach":
            command.add_argument("--force", action="store_true",
                                 help="even if this host may lose its network")  # fmt: skip
    args = parser.parse_args(arguments)
    if os.geteuid() != 0:
        raise Forbidden("uswitch-xdp", args.command, "changes the host, which only root may")
    if args.command == "serve":
        serve(host, socket.socket(fileno=0))
    elif args.command == "attach":
        print(plain(attach(host, args.ifname, args.force)))
    else:
        print(plain(detach(host, args.ifname)))


def main(argv: Sequence[str] | None = None, host: RootHost | None = None) -> int:
    try:
        run(argv, host or RootHost())
        return 0
    except OSError as error:
        vanished = error.errno in (errno.ENODEV, errno.ENXIO)
        failed = USwitchError("interface" if vanished else "uswitch-xdp",
                              why=f"vanished: {error}" if vanished else str(error))  # fmt: skip
    except USwitchError as error:
        failed = error
    _complain(failed)
    return failed.exit_status


def _complain(error: USwitchError) -> None:
    print(f"uswitch-xdp: {plain(str(error))}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())

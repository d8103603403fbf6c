# SPDX-License-Identifier: Apache-2.0
"""The hook that libvirt runs when a domain starts, ends, moves, or is found again.

libvirt calls ``/etc/libvirt/hooks/qemu.d/50-uswitch DOMAIN OPERATION ...`` with
the domain's XML as standard input, and waits.  The shell script there leaves at
once when there is no vhost-user interface, else it comes here.

    prepare           makes the ports; fails, and with it the start, where the guest
                      would hang or be without a network.  The script lets libvirt go
                      on meanwhile and gives the answer at the next call, start
    release           deletes them, while libvirt goes on; uswitchd removes a socket that QEMU left
    reconnect         makes those that are missing; never fails: libvirt would kill the guest
    migrate, restore  prints the XML with socket paths of this host, or nothing

All of it within ``deadline_s``.  libvirt is never called back (it would wait
for us).  Standard library only, and little of it: this runs at each start.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time

from vif_uswitch.client import (
    DEFAULT_SOCKET,
    SOCKET_VARIABLE,
    Client,
    default_socket,
    user_socket,
)
from vif_uswitch.exceptions import (
    Busy,
    Conflict,
    DaemonUnreachable,
    InvalidInput,
    TimedOut,
    Unavailable,
    USwitchError,
    shown,
)
from vif_uswitch.hooks import plan, settings
from vif_uswitch.hooks.domain_xml import (
    ASKED_AT,
    DomainXml,
    parse_domain,
    with_paths,
)
from vif_uswitch.hooks.settings import HostSettings
from vif_uswitch.hooks.xml_tree import XML_MAX
from vif_uswitch.records import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn, TypeVar

    T = TypeVar("T")

PASSING = (DaemonUnreachable, Busy, Unavailable)  # uswitchd may be restarting
PAUSE_S = 0.1
RECONNECT_S = 1.0
"""The guest runs and is connected; libvirtd, which is starting, waits for the hook."""
RELEASE_S = 30.0
"""Nobody waits: long enough for a uswitchd that is being restarted."""
CALLED_VARIABLE = "USWITCH_CALLED_AT"
"""When libvirt called, by /proc/uptime: the script there lets us work while libvirt goes on."""
NAME = "uswitch"


class Uswitchd:
    """uswitchd, asked again until the deadline as long as the failure may pass."""

    def __init__(self, path: str, seconds: float) -> None:
        self.path = path
        self._deadline = time.monotonic() + seconds
        self._client = Client(path, seconds, self._deadline)  # each call connects if it has to

    def ask(self, request: Callable[[Client], T], again: bool = True) -> T:
        """The answer to ``request``; raises the last failure, a USwitchError."""
        while True:
            if self._deadline <= time.monotonic():
                raise self._late()
            try:
                return request(self._client)
            except TimedOut:
                raise self._late() from None
            except PASSING:
                if not again or self._deadline - time.monotonic() < 2 * PAUSE_S:
                    raise
            time.sleep(PAUSE_S)

    def close(self) -> None:
        self._client.close()

    def _late(self) -> TimedOut:
        return TimedOut("uswitchd", None, "did not do all of it in the time the hook has",
                        "See deadline_s in /etc/uswitch/libvirt.conf.")


def vhost_dir(control_socket: str) -> str:
    """Where its uswitchd has vhost-user sockets, unless it is told otherwise."""
    return os.path.join(os.path.dirname(control_socket), "vhost")


def has_socket_at(domain: DomainXml, control_socket: str) -> bool:
    directory = vhost_dir(control_socket)
    return any(plan.below(each.path, directory) for each in domain.vhost_users)


def users_own(domain: DomainXml) -> str:
    """The control socket of this user's own switch if the domain has a socket there, else "".

    A user may have that one and use the host's as well.  Which of them a guest
    needs its paths say, and not which of them is up: the guest would wait for
    the other one.
    """
    if os.geteuid() == 0 or os.environ.get(SOCKET_VARIABLE):
        return ""
    try:
        own = user_socket()
    except InvalidInput:
        return ""
    return own if has_socket_at(domain, own) else ""


def not_told(domain: DomainXml) -> str:
    """The control socket where neither the settings nor a user's own paths say which."""
    if not os.environ.get(SOCKET_VARIABLE) and has_socket_at(domain, DEFAULT_SOCKET):
        return DEFAULT_SOCKET  # a user who may not use it shall be told so
    return default_socket()


class Host:
    """What of this host an operation needs."""

    def __init__(self, operation: str, domain: DomainXml) -> None:
        self.uri = "qemu:///system" if os.geteuid() == 0 else "qemu:///session"
        self.wrong: InvalidInput | None = None  # of the settings
        try:
            self.settings = settings.load()
        except InvalidInput as error:
            self.settings, self.wrong = HostSettings(), error
        seconds = self.settings.deadline_s
        if operation == "release":
            seconds = RELEASE_S
        if operation == "reconnect":
            seconds = min(seconds, RECONNECT_S)
        self.own = users_own(domain)
        socket = self.own or self.settings.control_socket or not_told(domain)
        self.uswitchd = Uswitchd(socket, seconds)

    def directory(self) -> str:
        """Of vhost-user sockets.  Of a uswitchd that is away: where they are by default."""
        if self.settings.vhost_socket_dir and not self.own:
            return self.settings.vhost_socket_dir
        try:
            shown_ = self.uswitchd.ask(Client.show, again=False)
            return str(shown_["daemon"]["vhost_socket_dir"])
        except USwitchError:
            return vhost_dir(self.uswitchd.path)

    def known(self, domain: DomainXml) -> list[plan.Port]:
        """The ports of uswitchd that name this domain."""
        return self.uswitchd.ask(
            lambda client: client.port_list(external_id=("domain-uuid", domain.uuid))
        )


# ---- operations: each returns the exit status ----


def prepare(domain: DomainXml, host: Host) -> int:
    directory = host.directory()
    interfaces = plan.ours(domain, directory)
    if not interfaces:
        return 0
    failures: list[tuple[str, USwitchError]] = []
    try:
        if host.wrong is not None:
            raise host.wrong
        plan_ = plan.prepare(domain, host.known(domain), directory, host.settings, host.uri)
        failures += plan_.refused
        for text in plan_.notes:
            note(f"domain {shown(domain.name)}: {text}")
        for name in plan_.delete:
            delete(host, name)
    except USwitchError as error:
        failures.append((interfaces[0].mac, error))
    else:
        for port in plan_.make:
            try:
                make(host, port)
            except USwitchError as error:
                failures.append((port["external_ids"]["mac"], error))
    for mac, failure in failures:
        complain(f"interface {mac} of domain {shown(domain.name)} gets no port: {failure}")
    return 1 if failures else 0


def release(domain: DomainXml, host: Host) -> int:
    for port in plan.release(domain, host.known(domain), called_at()):
        # As it was a moment ago or not at all: the guest may be starting again.
        delete(host, port["name"], port["external_ids"])
    return 0


def called_at() -> float:
    """Seconds after the host's start, as in /proc/uptime."""
    return float(os.environ.get(CALLED_VARIABLE) or time.clock_gettime(time.CLOCK_BOOTTIME))


def reconnect(domain: DomainXml, host: Host) -> int:
    known = host.known(domain)
    plan_ = plan.reconnect(domain, known, host.directory(), host.settings, host.uri)
    for mac, error in plan_.refused:
        note(f"interface {mac} of domain {shown(domain.name)}: {error}")
    for name in plan_.delete:
        delete(host, name)
    for port in plan_.make:
        try:
            make(host, port, running=True)
        except USwitchError as error:
            note(f"port {port['name']} of domain {shown(domain.name)}: {error}")
    return 0


def move(domain: DomainXml, host: Host, xml: bytes) -> int:
    """Migration and restore: the one place where libvirt takes XML from a hook."""
    paths = plan.moved(domain, host.directory())
    if paths:
        sys.stdout.buffer.write(with_paths(xml, paths).encode())
        sys.stdout.flush()
    return 0


def make(host: Host, port: plan.Port, running: bool = False) -> None:
    """The port as wanted, unless one that was made by hand for the guest has its socket."""
    port["external_ids"][ASKED_AT] = f"{called_at():.2f}"
    try:
        made = host.uswitchd.ask(lambda client: client.port_ensure(port, create_segments=True))
        plan.check_reachable(made["port"])
    except Conflict as error:
        plan.occupied(port, host.uswitchd.ask(Client.port_list), error, running)


def delete(host: Host, name: str, external_ids: dict[str, str] | None = None) -> None:
    host.uswitchd.ask(lambda client: client.port_delete(name, external_ids))


# ---- the program ----


def complain(text: str) -> None:
    """libvirt shows this, together with its own words, if the exit status is not 0."""
    print(f"{NAME}: {text}", file=sys.stderr)


def note(text: str) -> None:
    """For an administrator: what a hook says that succeeds, libvirt throws away."""
    import syslog

    syslog.openlog("uswitch-libvirt", syslog.LOG_PID, syslog.LOG_DAEMON)
    syslog.syslog(syslog.LOG_WARNING, text)
    complain(text)


def run(name: str, operation: str, xml: bytes) -> int:
    """The exit status for one call of the hook; raises USwitchError."""
    domain = parse_domain(xml)
    host = Host(operation, domain)
    with contextlib.closing(host.uswitchd):
        if operation == "prepare":
            return prepare(domain, host)
        if operation == "release":
            return release(domain, host)
        if operation == "reconnect":
            return reconnect(domain, host)
        if operation in ("migrate", "restore"):
            if host.wrong is not None:
                raise host.wrong
            return move(domain, host, xml)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """``argv``: DOMAIN OPERATION ..., as libvirt gives them."""
    words = sys.argv[1:] if argv is None else argv
    if len(words) < 2:
        complain("is run by libvirt, as a hook: DOMAIN OPERATION, and XML as standard input")
        return 2
    name, operation = words[0], words[1]
    try:
        status = run(name, operation, sys.stdin.buffer.read(XML_MAX + 1))
    except USwitchError as error:
        note(f"{shown(operation)} of domain {shown(name)}: {error}")
        status = 1
    except Exception as error:
        note(f"{shown(operation)} of domain {shown(name)}: a defect of the hook: {error!r}")
        status = 1
    return 0 if operation == "reconnect" else status


def end(status: int) -> NoReturn:
    """Now: an interpreter that tidies up first keeps libvirt waiting."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # nobody listens
            stream.flush()
    os._exit(status)

# SPDX-License-Identifier: Apache-2.0
"""One request to uswitchd, insisted on until a deadline: for whom an error costs more than a wait.

uswitchd may be restarted at any moment and is back within a second or two;
Nova, told of an error, would put the instance into ERROR for good, and a
Neutron agent would leave its network or router to the next round.  So what
passes by itself is waited for, and what does not (no permission, a request
that is refused) is reported at once, in words for whoever runs the asking
process: which user, which path, whose and which mode, what to do.

For the os-vif plugin and the Neutron parts.  Every request that is made here
can be repeated.  Standard library only.  Holds no state; any thread.
"""

from __future__ import annotations

import grp
import logging
import os
import pwd
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from vif_uswitch.client import Client
from vif_uswitch.exceptions import (
    Busy,
    DaemonUnreachable,
    Forbidden,
    TimedOut,
    Unavailable,
    USwitchError,
)

LOG = logging.getLogger(__name__)

PASSING = (DaemonUnreachable, Busy, Unavailable)
PAUSE_S = (0.1, 1.0)  # between two attempts: first, longest
ATTEMPT_S = 0.05  # less is left: no use in another one
GROUPS_SHOWN = 16
SOCKET = "control socket"  # what errors are about that concern the connection itself

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks whom, and what the advice in an error speaks of."""

    path: str  # of the control socket
    call_s: float  # that one call may take
    service: str  # has its groups from its start: "nova-compute"
    options: str  # group of the options control_socket and timeout: "os_vif_uswitch"


def insist(caller: Caller, request: Callable[[Client], T], budget_s: float, subject: str) -> T:
    """The answer to ``request``, asked again for up to ``budget_s`` while the failure may pass.

    Raises the last failure, a USwitchError.  ``subject`` is for the log.
    """
    deadline = time.monotonic() + budget_s
    pause = PAUSE_S[0]
    told = False
    while True:
        left = max(deadline - time.monotonic(), ATTEMPT_S)
        try:
            with Client(caller.path, min(caller.call_s, left)) as client:
                answer = request(client)
        except USwitchError as raised:
            error = explained(caller, raised, min(caller.call_s, budget_s))
        except OSError as raised:  # no descriptors left, for one
            error = Unavailable(SOCKET, caller.path, f"cannot be used: {raised.strerror or raised}")
        else:
            if told:
                LOG.info("%s: uswitchd answers", subject)
            return answer
        if not isinstance(error, PASSING):
            raise error
        if deadline - time.monotonic() < pause + ATTEMPT_S:
            raise _given_up(error, budget_s)
        if not told:
            LOG.warning("%s: %s Trying again for up to %g s.", subject, sentence(error), budget_s)
            told = True
        time.sleep(pause)
        pause = min(2 * pause, PAUSE_S[1])


def explained(caller: Caller, error: USwitchError, waited_s: float) -> USwitchError:
    """The same failure, in words for whoever runs this process and not for a caller of the API."""
    if isinstance(error, Forbidden) and error.what == SOCKET:
        why = f"{me()} may not use it: {described(caller.path)}"
        return Forbidden(SOCKET, caller.path, why, _way_in(caller, caller.path))
    if isinstance(error, DaemonUnreachable):
        return _unreachable(caller, error)
    if isinstance(error, TimedOut):
        return TimedOut(
            "uswitchd", None, f"no answer within {waited_s:g} s",
            f"See its log, or set a longer timeout in [{caller.options}].",
        )  # fmt: skip
    return error


def _unreachable(caller: Caller, error: DaemonUnreachable) -> USwitchError:
    closed = _closed(caller.path)
    if closed:
        why = _stopped(closed, caller.path)
        return Forbidden(SOCKET, caller.path, why, _way_in(caller, closed))
    todo = (f"Start uswitchd and see its log, or set control_socket in [{caller.options}] to where"
            " it listens.")  # fmt: skip
    if isinstance(error.__context__, PermissionError):  # what the system told the client
        todo = ("Owner, group and mode allow it: see the kernel's log for a security module"
                " (AppArmor, SELinux) that does not.")  # fmt: skip
    return DaemonUnreachable(error.what, error.value, error.why, todo)


def _way_in(caller: Caller, closed: str) -> str:
    """What to do for this process to be let in where it is not: a directory, or the socket."""
    user = _user(os.geteuid())
    if closed != caller.path:
        return (f"Let user {user} enter that directory, for example by mode 0755: the socket in it"
                " is protected by its own group, the control_group of uswitchd.")  # fmt: skip
    group = _control_group(closed)
    if group:
        return (f"Make user {user} a member of group {group}, the control_group of uswitchd, and"
                f" restart {caller.service}.")  # fmt: skip
    return (f"Set control_group in uswitchd.conf and restart uswitchd; make user {user} a member of"
            f" that group and restart {caller.service}.")  # fmt: skip


def _control_group(path: str) -> str:
    """Whose group the socket was given, "" if none: it has its owner's own then."""
    try:
        found = os.stat(path)
        if found.st_gid == pwd.getpwuid(found.st_uid).pw_gid:
            return ""
    except (OSError, KeyError):
        return ""
    return _group(found.st_gid)


def _given_up(error: USwitchError, budget_s: float) -> USwitchError:
    return type(error)(
        error.what, error.value, f"{error.why} (tried for {budget_s:g} s)", error.todo
    )


def sentence(error: USwitchError) -> str:
    """Its text, with a full stop, for something to follow."""
    text = str(error)
    return text if text.endswith(".") else f"{text}."


def obstacle(path: str) -> str:
    """Why we may not use the socket, with owner, group and mode of what is in the way, or ""."""
    closed = _closed(path)
    return _stopped(closed, path) if closed else ""


def _stopped(closed: str, path: str) -> str:
    return f"{me()} may not {'write' if closed == path else 'enter'} {described(closed)}"


def _closed(path: str) -> str:
    """The first on the way to the socket that this process may not enter, or write; or ""."""
    for part in (*reversed(_parents(path)), path):
        wanted = os.W_OK if part == path else os.X_OK
        if os.path.lexists(part) and not os.access(part, wanted):
            return part
    return ""


def _parents(path: str) -> list[str]:
    found = []
    while (above := os.path.dirname(path)) != path:
        found.append(above)
        path = above
    return found


def described(path: str) -> str:
    """``/run/uswitch (uswitch:uswitch, mode 0750)``."""
    try:
        found = os.stat(path)
    except OSError as error:
        return f"{path} ({error.strerror})"
    owner, group = _user(found.st_uid), _group(found.st_gid)
    return f"{path} ({owner}:{group}, mode {stat.S_IMODE(found.st_mode):04o})"


def owner(path: str) -> str:
    """``user uswitch``: whose socket it is, and so who serves it."""
    try:
        return f"user {_user(os.stat(path).st_uid)}"
    except OSError:
        return "whose user is unknown"


def me() -> str:
    """``user nova (groups nova, libvirt)``: whoever runs this process."""
    groups = sorted({os.getegid(), *os.getgroups()})
    names = [_group(gid) for gid in groups[:GROUPS_SHOWN]]
    more = ", ..." if len(groups) > GROUPS_SHOWN else ""
    return f"user {_user(os.geteuid())} (groups {', '.join(names)}{more})"


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)

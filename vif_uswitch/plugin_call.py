# SPDX-License-Identifier: Apache-2.0
"""One request of the os-vif plugin to uswitchd, insisted on until a deadline.

uswitchd may be restarted at any moment and is back within a second or two;
Nova, told of an error, would put the instance into ERROR for good.  So what
passes by itself is waited for, and what does not (no permission, a request
that is refused) is reported at once.  Every request that is made here can be
repeated.  Holds no state; any thread.
"""

from __future__ import annotations

import grp
import logging
import os
import pwd
import stat
import time
from collections.abc import Callable
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
from vif_uswitch.plugin_opts import GROUP

LOG = logging.getLogger(__name__)

PASSING = (DaemonUnreachable, Busy, Unavailable)
PAUSE_S = (0.1, 1.0)  # between two attempts: first, longest
ATTEMPT_S = 0.05  # less is left: no use in another one
GROUPS_SHOWN = 16
SOCKET = "control socket"  # what errors are about that concern the connection itself

T = TypeVar("T")


def insist(path: str, request: Callable[[Client], T], budget_s: float, subject: str) -> T:
    """The answer to ``request``, asked again for up to ``budget_s`` while the failure may pass.

    Raises the last failure, a USwitchError.  ``subject`` is for the log.
    """
    deadline = time.monotonic() + budget_s
    pause = PAUSE_S[0]
    told = False
    while True:
        try:
            with Client(path, max(deadline - time.monotonic(), ATTEMPT_S)) as client:
                answer = request(client)
        except USwitchError as raised:
            error = _explained(path, raised, budget_s)
        except OSError as raised:  # no descriptors left, for one
            error = Unavailable(SOCKET, path, f"cannot be used: {raised.strerror or raised}")
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


def _explained(path: str, error: USwitchError, budget_s: float) -> USwitchError:
    """The same failure, in words for whoever runs this process and not for a caller of the API."""
    why = obstacle(path) if isinstance(error, DaemonUnreachable) else ""
    if isinstance(error, Forbidden) and error.what == SOCKET:
        why = f"{me()} may not use it: {described(path)}"
    if why:
        return Forbidden(
            SOCKET, path, why,
            "Make this user a member of uswitchd's control_group, and restart this service.",
        )  # fmt: skip
    if isinstance(error, TimedOut):
        return TimedOut(
            "uswitchd", None, f"no answer within {budget_s:g} s",
            f"See its log, or set a longer timeout in [{GROUP}].",
        )  # fmt: skip
    if isinstance(error, DaemonUnreachable):
        return DaemonUnreachable(
            error.what, error.value, error.why,
            "Start uswitchd and see its log, or set control_socket in"
            f" [{GROUP}] to where it listens.",
        )  # fmt: skip
    return error


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
    for part in (*reversed(_parents(path)), path):
        wanted = os.W_OK if part == path else os.X_OK
        if os.access(part, wanted) or not os.path.lexists(part):
            continue
        doing = "write" if part == path else "enter"
        return f"{me()} may not {doing} {described(part)}"
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

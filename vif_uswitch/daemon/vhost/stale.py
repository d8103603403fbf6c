# SPDX-License-Identifier: Apache-2.0
"""Removes the socket file that a QEMU left which was killed.

QEMU makes the socket of a port in mode server, and removes it when it ends in
order.  When it did not, nobody else does: neither libvirt nor Nova.  So the
end of the port is the end of the file, unless it is more than a stale socket:
nothing else is removed, no link is followed, nothing outside the directory of
vhost-user sockets is touched, and a socket on which somebody listens stays.

Called by ``reconcile.py`` in the event loop's thread.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import stat
import time

from vif_uswitch.dataplane import unixpath

LOG = logging.getLogger(__name__)
SETTLED_S = 0.1
"""Between bind() and listen() a socket looks stale; after this long it is not between them."""


async def remove_stale(path: str, below: str) -> bool:
    """Whether a stale socket was there and is gone.  Never raises: what stays is in the log."""
    try:
        with unixpath.directory(path, below) as at:
            return await _remove(path, below, at)
    except FileNotFoundError:
        return False
    except OSError as error:
        LOG.warning("%s stays: %s", path, error.strerror or error)
        return False


async def _remove(path: str, below: str, at: int) -> bool:
    name = os.path.basename(path)
    found = os.stat(name, dir_fd=at, follow_symlinks=False)
    if not stat.S_ISSOCK(found.st_mode) or _is_alive(path, below):
        return False
    age = time.time() - found.st_ctime
    if age < SETTLED_S:
        await asyncio.sleep(SETTLED_S)
        if _is_alive(path, below):
            return False
    if _identity(os.stat(name, dir_fd=at, follow_symlinks=False)) != _identity(found):
        return False  # somebody else's by now
    os.unlink(name, dir_fd=at)
    LOG.info("removed %s: nobody listens on that socket any more", path)
    return True


def _identity(found: os.stat_result) -> tuple[int, int, int]:
    """Inodes are used again at once; their time of change is not."""
    return found.st_dev, found.st_ino, found.st_ctime_ns


def _is_alive(path: str, below: str) -> bool:
    try:
        unixpath.connect(path, socket.SOCK_STREAM, below).close()
    except ConnectionRefusedError:
        return False
    except BlockingIOError:
        pass  # its queue of connections is full: it has an owner
    return True

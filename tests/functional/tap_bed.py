# SPDX-License-Identifier: Apache-2.0
"""A switch with root's helper for TAP devices beside it, as systemd would start that.

The switch sees a /run of its own, with nothing in it but the helper's socket:
neither the network namespaces of this host nor anything else is in its reach.
The helper is started by ``Helper.start()``, so that a test may do without it.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

from testbed import unprivileged
from testbed.daemons import Switch, installed
from vif_uswitch.daemon.tap_helper import PATH

PATIENCE_S = 10.0
# As much of uswitch-tap@.service as can be had without systemd.
CONFINED = ("setpriv", "--no-new-privs", "--inh-caps=-all",
            "--bounding-set=-all,+sys_admin,+setuid,+setgid")


class Helper:
    """uswitch-tap.socket and uswitch-tap@.service."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.started = 0
        self._listener: socket.socket | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self.started = 0
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(self.path)
        who = unprivileged.identity()
        os.chown(self.path, who.uid, who.gid)
        os.chmod(self.path, 0o600)
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, args=(self._listener,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        if self._listener is not None and self._thread is not None:
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._thread.join(PATIENCE_S)
            self._listener.close()
            self._listener = None
            os.unlink(self.path)

    def _serve(self, listener: socket.socket) -> None:
        running: list[subprocess.Popen[bytes]] = []
        while True:
            try:
                peer = listener.accept()[0]
            except OSError:
                break
            with peer:
                command = [*CONFINED, str(installed("uswitch-tap"))]
                running.append(subprocess.Popen(command, stdin=peer.fileno()))
            self.started += 1
        for one in running:  # uswitchd may still be connected
            one.terminate()
            one.wait(PATIENCE_S)


class Bed:
    """The switch is not started yet."""

    def __init__(self) -> None:
        who = unprivileged.identity()
        self.directory = Path(tempfile.mkdtemp(prefix="uswitch-tap-"))
        unprivileged.own(self.directory, who)
        self.helper = Helper(str(self.directory / "helper.sock"))
        script = f'mount -t tmpfs none /run && ln -s "$0" {PATH} && exec "$@"'
        self.switch = Switch(
            self.directory, within=["unshare", "-m", "sh", "-c", script, self.helper.path]
        )

    def close(self) -> None:
        self.switch.stop()
        self.helper.stop()
        shutil.rmtree(self.directory)

    def restart(self) -> None:
        """Both processes killed at once, and started again."""
        self.switch.kill_daemon()
        self.switch.kill_dataplane()
        self.switch.start()

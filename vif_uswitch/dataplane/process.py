# SPDX-License-Identifier: Apache-2.0
"""The dataplane process: find the one that runs, or start one; notice its end; make sure of it.

Its listening socket is ``$run_dir/dataplane.sock``, made here and inherited.
The process lives in its own session and survives us; the next uswitchd
connects to the same path.  ``$run_dir/dataplane.pid`` (pid and start time)
serves only to end a process that no longer answers.

Two dataplanes on one guest's rings would corrupt it, so nothing here starts a
process before the one before is known to be dead (pidfd).  All of this
belongs to the event loop's thread; the only wait is for fork and exec.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from vif_uswitch.dataplane import unixpath
from vif_uswitch.dataplane.base import Dataplane, DataplaneGone, DataplaneRefused, Event
from vif_uswitch.dataplane.link import Link
from vif_uswitch.exceptions import Conflict, Unavailable

DEATH_S = 10.0  # a killed process that still maps guests' memory needs a moment
SHUTDOWN_S = 5.0
HANG_UPS_MAX, HANG_UP_PAUSE_S = 5, 0.05


class Running(Protocol):
    """A dataplane that answered HELLO."""

    pid: int
    adopted: bool
    usable: bool  # False: of another build; its escrow can be read, then it must go
    n_ports: int
    page_fd: int | None  # the switch page, owned by this object

    @property
    def dataplane(self) -> Dataplane: ...
    @property
    def gone(self) -> bool: ...
    async def wait_gone(self) -> str: ...
    async def bury(self) -> None: ...
    async def shutdown(self) -> None: ...
    def let_go(self) -> None: ...


class Launcher(Protocol):
    """Makes ``Running`` objects."""

    async def adopt(self) -> Running | None: ...
    async def start(self) -> Running: ...


@dataclass(frozen=True, slots=True)
class Command:
    """How to start the program."""

    binary: str
    workers: int = 1
    poll_us: int = 50
    cpus: tuple[int, ...] = ()
    fdb_buckets: int = 8192
    fdb_age_s: int = 300
    rebalance_ms: int = 1000
    extra: tuple[str, ...] = field(default=())

    def arguments(self, listen_fd: int) -> list[str]:
        words = [
            self.binary, "--listen-fd", str(listen_fd), "--workers", str(self.workers),
            "--poll-us", str(self.poll_us), "--fdb-buckets", str(self.fdb_buckets),
            "--fdb-age", str(self.fdb_age_s), "--rebalance-ms", str(self.rebalance_ms),
            *self.extra,
        ]  # fmt: skip
        if self.cpus:
            words += ["--cpu", ",".join("-" if cpu < 0 else str(cpu) for cpu in self.cpus)]
        return words


class LinkedProcess:
    """Implements ``Running``: a link, and a pidfd to be sure of death."""

    def __init__(self, link: Link, pid: int, child: subprocess.Popen[bytes] | None) -> None:
        self._link = link
        self._child = child
        self._pidfd = os.pidfd_open(pid)
        self.pid = pid
        self.adopted = child is None
        self.usable = True
        self.n_ports = 0
        self.page_fd: int | None = None

    @property
    def dataplane(self) -> Dataplane:
        return self._link

    @property
    def gone(self) -> bool:
        """Whether the link ended; the process may run on."""
        return self._link.gone.done()

    async def wait_gone(self) -> str:
        """Until the link ended, for whatever reason; says which."""
        return await asyncio.shield(self._link.gone)

    async def bury(self) -> None:
        """Kills the process if need be, and returns when it is dead for certain."""
        self._link.close("it is being replaced")
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        if not await _readable(self._pidfd, DEATH_S):
            raise Unavailable(
                "the dataplane process", self.pid, "it does not die",
                "see its state in /proc; it may hang in a driver",
            )  # fmt: skip
        self._end()

    async def shutdown(self) -> None:
        """An orderly end; falls back to the other kind."""
        with suppress(DataplaneGone, DataplaneRefused):
            await self._link.shutdown()
        await _readable(self._pidfd, SHUTDOWN_S)
        await self.bury()

    def let_go(self) -> None:
        """Closes the link and leaves the process alone."""
        self._link.close("uswitchd ends")
        if self._child is not None:
            self._child.returncode = 0  # not ours any more; nobody will ask for its status
        self._end()

    def _end(self) -> None:
        if self._child is not None:
            self._child.poll()
        for fd in (self._pidfd, self.page_fd):
            if fd is not None and fd >= 0:
                os.close(fd)
        self._pidfd, self.page_fd = -1, None


class ProcessLauncher:
    """Implements ``Launcher`` for the real program."""

    def __init__(
        self,
        run_dir: str,
        command: Command,
        on_event: Callable[[Event], None],
        log_path: str | None = None,
    ) -> None:
        self._command = command
        self._on_event = on_event
        self._log_path = log_path
        self._socket_path = os.path.join(run_dir, "dataplane.sock")
        self._pid_path = Path(run_dir, "dataplane.pid")

    async def adopt(self) -> LinkedProcess | None:
        """The dataplane an earlier uswitchd left running, or None.

        One that runs but does not answer is killed: its escrow is out of
        reach.  One that hangs up may be about to die, or have a controller.
        """
        for _ in range(HANG_UPS_MAX):
            try:
                sock = unixpath.connect(self._socket_path, socket.SOCK_SEQPACKET)
            except (FileNotFoundError, ConnectionRefusedError, BlockingIOError):
                await self._kill_recorded()
                return None
            link = Link(sock, self._on_event)
            try:
                return await self._greet(link, None)
            except DataplaneGone:
                if link.timed_out:
                    await self._kill_recorded()
                    return None
            await asyncio.sleep(HANG_UP_PAUSE_S)
        raise self._taken("it hangs up on us")

    def _taken(self, why: str) -> Conflict:
        return Conflict(
            "the dataplane", self._socket_path, f"another uswitchd controls it ({why})",
            "stop that one first, or use another run_dir",
        )  # fmt: skip

    async def start(self) -> LinkedProcess:
        """Raises Unavailable with the reason; nothing of the attempt stays."""
        try:
            child, sock = self._launch()
        except OSError as error:
            raise Unavailable(
                "cannot start the dataplane", self._socket_path, str(error),
                "see that run_dir is writable and resources are left",
            ) from error  # fmt: skip
        link = Link(sock, self._on_event)
        try:
            return await self._greet(link, child)
        except BaseException:
            link.close()
            child.kill()
            child.wait(DEATH_S)
            raise

    def _launch(self) -> tuple[subprocess.Popen[bytes], socket.socket]:
        with suppress(FileNotFoundError):
            os.unlink(self._socket_path)
        listener, _ = unixpath.bind(self._socket_path, socket.SOCK_SEQPACKET)
        with listener:
            listener.listen(4)
            # Before the child is there: our connection is the first in its line.
            sock = unixpath.connect(self._socket_path, socket.SOCK_SEQPACKET)
            try:
                child = self._spawn(listener.fileno())
            except BaseException:
                sock.close()
                raise
        with suppress(OSError):  # only needed to end one that hangs
            self._record(child.pid)
        return child, sock

    def _spawn(self, listen_fd: int) -> subprocess.Popen[bytes]:
        log = open(self._log_path, "ab") if self._log_path else None  # noqa: SIM115
        try:
            return subprocess.Popen(
                self._command.arguments(listen_fd), stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=log, pass_fds=(listen_fd,),
                start_new_session=True, cwd="/",
            )  # fmt: skip
        except OSError as error:
            raise Unavailable(
                "cannot start the dataplane", self._command.binary, error.strerror or str(error),
                "set [dataplane] binary to the path of uswitch-dataplane",
            ) from error  # fmt: skip
        finally:
            if log is not None:
                log.close()

    async def _greet(self, link: Link, child: subprocess.Popen[bytes] | None) -> LinkedProcess:
        try:
            hello, page_fd = await link.hello()
        except DataplaneRefused as error:
            link.close()
            raise self._taken(str(error)) from error
        except DataplaneGone as error:
            if child is not None and await _ends(child):
                raise Unavailable(
                    "the dataplane", self._command.binary,
                    f"it ended at once with status {child.returncode}", "its log says why",
                ) from error  # fmt: skip
            raise
        try:
            running = LinkedProcess(link, hello.pid if child is None else child.pid, child)
        except ProcessLookupError as error:
            link.close()
            raise DataplaneGone("hello", why="the process is gone") from error
        running.n_ports = hello.n_ports
        running.page_fd = page_fd
        running.usable = page_fd is not None
        if child is not None and not running.usable:
            await running.bury()
            raise Unavailable(
                "the dataplane", self._command.binary, "it was built from another uswitch.h than "
                "this uswitchd", "install both from one build",
            )  # fmt: skip
        return running

    # ---- a process that does not answer ----

    def _record(self, pid: int) -> None:
        temporary = self._pid_path.with_suffix(".new")
        temporary.write_text(f"{pid} {_start_time(pid)}\n", encoding="ascii")
        temporary.replace(self._pid_path)

    async def _kill_recorded(self) -> None:
        try:
            pid, started = (int(word) for word in self._pid_path.read_text("ascii").split())
            pidfd = os.pidfd_open(pid)
        except (OSError, ValueError):
            return
        try:
            if _start_time(pid) == started:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                await _readable(pidfd, DEATH_S)
        except OSError:
            return
        finally:
            os.close(pidfd)


def _start_time(pid: int) -> int:
    """Clock ticks since boot: together with the pid it names a process for good."""
    text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    return int(text.rpartition(")")[2].split()[19])


async def _ends(child: subprocess.Popen[bytes]) -> bool:
    """Whether a child that hung up is about to be dead."""
    pidfd = os.pidfd_open(child.pid)
    try:
        await _readable(pidfd, 1.0)
    finally:
        os.close(pidfd)
    return child.poll() is not None


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def _readable(fd: int, timeout_s: float) -> bool:
    """Waits until ``fd`` is readable; False when it took too long."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    until = time.monotonic() + timeout_s
    loop.add_reader(fd, _settle, ready)
    try:
        await asyncio.wait_for(ready, max(0.0, until - time.monotonic()))
    except asyncio.TimeoutError:
        return False
    finally:
        loop.remove_reader(fd)
    return True

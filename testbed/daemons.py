# SPDX-License-Identifier: Apache-2.0
"""The switch itself: uswitchd with its dataplane, in a directory of its own, unprivileged.

    with Switch(run_dir) as switch:
        switch.call("segment.add", name="red")
        switch.add_port("g0", segment="red")

``call()`` speaks the control API with nothing but the standard library, so that what a test sees is
the daemon's answer and not our client's idea of it; ``client`` and ``ctl()`` are there for tests of
those.
"""

from __future__ import annotations

import configparser
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from testbed import TestbedError, unprivileged
from testbed.process import Child, children, cpu_seconds, start_time

if TYPE_CHECKING:
    from vif_uswitch.client import Client

START_SECONDS = 30.0
CALL_SECONDS = 20.0
DATAPLANE = "uswitch-datapla"  # the kernel keeps 15 characters of a name
LISTS = {"port.list": "ports", "segment.list": "segments", "fdb.list": "entries",
         "drops": "drops", "stats": "ports"}

Options = Mapping[str, Mapping[str, object]]


class ApiError(TestbedError):
    """The daemon's refusal."""

    def __init__(self, method: str, body: dict[str, Any]) -> None:
        super().__init__(f"{method}: {body.get('message')}")
        self.code: int = body.get("code", 0)
        self.data: dict[str, Any] = body.get("data") or {}


@dataclass(frozen=True, slots=True)
class CpuUse:
    """Share of one processor each process used over an interval, in percent."""

    daemon: float
    dataplane: float


def installed(program: str) -> Path:
    """One of our programs, from the environment this interpreter belongs to."""
    path = Path(sys.prefix) / "bin" / program
    if not path.exists():
        raise TestbedError(f"{program} is not installed in {sys.prefix}: run 'make build'")
    return path


class Switch:
    """A private switch."""

    def __init__(self, directory: Path, *, options: Options | None = None, outlive: bool = False,
                 within: Sequence[str] = (), who: unprivileged.Identity | None = None) -> None:
        """``options`` is merged into the configuration: {"dataplane": {"workers": 2}}.

        ``within`` are words before uswitchd's command line, such as ip netns exec NAME; ``who``
        runs it, if not the unprivileged user of all tests.
        """
        self.directory = directory
        self.control = directory / "control.sock"
        self.vhost = directory / "vhost"
        self.config = directory / "uswitchd.conf"
        self.log = directory / "uswitchd.log"
        self.who = who or unprivileged.identity()
        self._outlive = outlive
        self._within = within
        self._child: Child | None = None
        self._dataplane = 0
        self._write_config(options or {})

    def _write_config(self, options: Options) -> None:
        parser = configparser.ConfigParser(interpolation=None)
        state = self.directory / "state"
        state.mkdir(exist_ok=True)
        unprivileged.own(state, self.who)
        parser["DEFAULT"] = {"run_dir": str(self.directory), "state_dir": str(state)}
        for section, values in options.items():
            if section != "DEFAULT" and section not in parser:
                parser[section] = {}
            parser[section].update({key: str(value) for key, value in values.items()})
        with self.config.open("w") as stream:
            parser.write(stream)

    # -- life ----------------------------------------------------------------------------------

    def __enter__(self) -> Switch:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.stop()

    def start(self, timeout: float = START_SECONDS) -> None:
        """Start uswitchd and wait until it answers and its dataplane runs."""
        program = installed("uswitchd")
        unprivileged.require_readable(program, self.who, "-x")
        self._child = Child("uswitchd", [program, "--config-file", self.config], self.log,
                            who=self.who, outlive=self._outlive, within=self._within)
        deadline = time.monotonic() + timeout
        while True:
            self._child.check()
            with contextlib.suppress(OSError, ApiError):
                if self.call("show")["dataplane"]["running"]:
                    return
            if time.monotonic() > deadline:
                raise TestbedError(f"uswitchd is not ready after {timeout:.0f} s:\n"
                                   f"{self._child.tail()}")
            time.sleep(0.05)

    def stop(self, timeout: float = 10) -> None:
        """End both processes; a dataplane whose daemon was killed is ended as well."""
        dataplane = self._find_dataplane()
        if self._child is not None:
            if self._child.alive():
                os.kill(self._child.pid, signal.SIGINT)  # unlike SIGTERM it means both
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._child.process.wait(timeout)
            self._child.kill()
        if dataplane:
            _end(dataplane, timeout)

    def kill_daemon(self) -> None:
        """SIGKILL uswitchd; the dataplane goes on."""
        self._dataplane = self._find_dataplane()
        assert self._child is not None
        self._child.kill()

    def kill_dataplane(self) -> int:
        """SIGKILL the dataplane; returns the pid it had."""
        pid = self.dataplane_pid
        os.kill(pid, signal.SIGKILL)
        return pid

    def wait_replaced(self, old: int, timeout: float = 60) -> None:
        """Wait until a dataplane with another pid than that runs.  Its ports may still be down."""
        deadline = time.monotonic() + timeout
        while not (now := self.call("show")["dataplane"])["running"] or now["pid"] == old:
            if time.monotonic() > deadline:
                raise TestbedError(f"no dataplane came after {old} within {timeout:.0f} s")
            time.sleep(0.05)

    def restart_daemon(self, sig: signal.Signals = signal.SIGKILL) -> None:
        """End uswitchd by a signal and start the next one."""
        self._dataplane = self._find_dataplane()
        assert self._child is not None
        if sig == signal.SIGKILL:
            self._child.kill()
        else:
            os.kill(self._child.pid, sig)
            self._child.process.wait(START_SECONDS)
        self.start()

    # -- look ----------------------------------------------------------------------------------

    @property
    def daemon_pid(self) -> int:
        """Of uswitchd."""
        assert self._child is not None
        return self._child.pid

    @property
    def dataplane_pid(self) -> int:
        """Of the running uswitch-dataplane, found by the kernel's records and not by the API."""
        pid = self._find_dataplane()
        if not pid:
            raise TestbedError("no uswitch-dataplane is running")
        return pid

    def _find_dataplane(self) -> int:
        parents = [self._child.pid] if self._child is not None and self._child.alive() else []
        for parent in parents:
            for pid in children(parent):
                if _is_dataplane(pid):
                    self._dataplane = pid
                    return pid
        # Adopted from an earlier daemon: nobody's child, but the pid we remember.
        return self._dataplane if _is_dataplane(self._dataplane) else 0

    def cpu(self, seconds: float) -> CpuUse:
        """Processor use over the next seconds."""
        pids = (self.daemon_pid, self.dataplane_pid)
        before, started = [cpu_seconds(pid) for pid in pids], time.monotonic()
        time.sleep(seconds)
        elapsed = time.monotonic() - started
        used = [(cpu_seconds(pid) - b) / elapsed * 100
                for pid, b in zip(pids, before, strict=True)]
        return CpuUse(*used)

    def tail(self, lines: int = 20) -> str:
        """The end of uswitchd's log (the dataplane writes there too)."""
        return self._child.tail(lines) if self._child is not None else ""

    # -- talk ----------------------------------------------------------------------------------

    def call(self, verb: str, /, **params: object) -> Any:
        """One request of the control API; lists are fetched page by page and joined."""
        if verb not in LISTS:
            return self._request(verb, params)
        items: list[Any] = []
        cursor = ""
        while True:
            page = self._request(verb, {**params, "cursor": cursor})
            items += page[LISTS[verb]]
            cursor = page["next"]
            if not cursor:
                return items

    def _request(self, verb: str, params: Mapping[str, object]) -> Any:
        request = {"jsonrpc": "2.0", "id": 1, "method": f"v1.{verb}", "params": params}
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(CALL_SECONDS)
            connection.connect(str(self.control))
            connection.sendall(json.dumps(request).encode() + b"\n")
            with connection.makefile("rb") as stream:
                line = stream.readline()
        if not line:
            raise ConnectionResetError(f"uswitchd closed the connection during {verb}")
        answer = json.loads(line)
        if "error" in answer:
            raise ApiError(verb, answer["error"])
        return answer["result"]

    def add_port(self, name: str, *, mode: Literal["server", "client"] = "client",
                 **settings: object) -> Path:
        """Add a vhost-user port, its segments too, and return its socket's path."""
        port = {"name": name, "type": "vhost-user", "mode": mode, **settings}
        answer = self.call("port.add", port=port, create_segments=True)
        return Path(answer["port"]["path"])

    def add_tap(self, name: str, ifname: str, **settings: object) -> None:
        """Add a TAP port."""
        port = {"name": name, "type": "tap", "ifname": ifname, **settings}
        self.call("port.add", port=port, create_segments=True)

    def wait_link(self, name: str, link: str = "up", timeout: float = 60) -> dict[str, Any]:
        """Wait until a port's link is in that state, and return its details."""
        deadline = time.monotonic() + timeout
        while True:
            detail: dict[str, Any] = self.call("port.show", name=name)
            if detail["port"]["link"] == link:
                return detail
            if time.monotonic() > deadline:
                raise TestbedError(f"port {name} is {detail['port']['link']}, not {link}, after "
                                   f"{timeout:.0f} s; {detail['port']['reason'] or 'no reason'}")
            time.sleep(0.05)

    def drops(self) -> Iterator[tuple[str, str, str, int]]:
        """Port, direction, reason, frames."""
        for drop in self.call("drops"):
            yield drop["port"], drop["direction"], drop["reason"], drop["frames"]

    @property
    def client(self) -> Client:
        """The product's own client, connected to this switch."""
        from vif_uswitch.client import Client
        return Client(str(self.control))

    def ctl(self, *words: str, check: bool = True) -> Any:
        """What ``uswitchctl -f json`` prints, parsed."""
        command = [str(installed("uswitchctl")), "--socket", str(self.control), *words,
                   "-f", "json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False,
                              timeout=CALL_SECONDS)
        if check and done.returncode:
            raise TestbedError(f"uswitchctl {' '.join(words)}: {done.stderr.strip()}")
        return json.loads(done.stdout) if done.stdout.strip() else None


def _is_dataplane(pid: int) -> bool:
    """By name (the kernel keeps 15 characters).  A zombie is none."""
    if not start_time(pid):
        return False
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip() == DATAPLANE
    except OSError:
        return False


def _end(pid: int, timeout: float) -> None:
    """End a process that may be nobody's child any more."""
    deadline = time.monotonic() + timeout
    for sig in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, sig)
        while _is_dataplane(pid) and time.monotonic() < deadline:
            time.sleep(0.02)
        deadline = time.monotonic() + timeout

# SPDX-License-Identifier: Apache-2.0
"""The load program of our own (``guests/``), for what dpdk-testpmd cannot do: built and operated.

It is compiled when its sources are newer than it.  A command is one line, the answer is one line of
``key=value``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from testbed import TestbedError, unprivileged
from testbed.process import Child
from testbed.testpmd import Cycles

from . import quiet
from .cases import Case
from .contenders import Contender, mac
from .generator import Window, measure

SOURCES = Path(__file__).parent / "guests"
ANSWER_SECONDS = 90.0
FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror")


def build(directory: Path) -> None:
    """All programs, into ``directory``."""
    directory.mkdir(parents=True, exist_ok=True)
    newest = max(path.stat().st_mtime for path in SOURCES.iterdir())
    alone = ("taps", "veths")
    made = [directory / name for name in ("guests", *alone)]
    if all(path.exists() and path.stat().st_mtime > newest for path in made):
        return
    for name in alone:
        _run(["cc", *FLAGS, "-o", str(directory / name), str(SOURCES / f"{name}.c")])
    flags, libs = (_run(["pkg-config", what, "libdpdk"]).split() for what in ("--cflags", "--libs"))
    sources = [str(SOURCES / name) for name in ("main.c", "load.c", "probe.c")]
    _run(["cc", *FLAGS, *flags, "-o", str(made[0]), *sources, *libs])


def _run(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise TestbedError(f"{error.filename} is missing ('make setup-bench' installs it)"
                           ) from error
    if done.returncode:
        raise TestbedError(f"{' '.join(command[:3])}...: {done.stderr.strip()}")
    return done.stdout


def parse_answer(line: str) -> dict[str, float]:
    """``a=1 b=2.5``; anything else is no answer."""
    try:
        found = {key: float(value) for key, _, value in
                 (word.partition("=") for word in line.split())}
    except ValueError:
        found = {}
    if not found or found.get("error") or found.get("rc"):
        raise TestbedError(f"the load program says: {line.strip() or 'nothing'}")
    return found


class Guests:
    """The running load program; create it when the switch listens."""

    program = Path()  # set once it is built, see __main__.py

    def __init__(self, directory: Path, contender: Contender, cpu: int, case: Case, *,
                 segment: int = 2048, memory: int = 512) -> None:
        self._contender = contender
        own = directory / "guests"
        shutil.copy(self.program, own)  # where the unprivileged user can read it
        own.chmod(0o755)
        cpus = ",".join(str(number) for number in sorted(os.sched_getaffinity(0)))
        words = [str(own), "--lcores", f"0@({cpus}),1@{cpu}", "--no-huge", "--no-shconf",
                 "-m", str(memory), "--no-pci", "--no-telemetry", "--file-prefix",
                 f"{directory.name}-guests"]
        for i, path in enumerate(contender.paths):
            words += ["--vdev", ",".join([f"net_virtio_user{i}", f"path={path}", f"mac={mac(i)}",
                                          f"queue_size={case.ring}", *case.options])]
        words += ["--", f"size={case.size}", f"segment={segment}", f"flows={max(1, case.flows)}",
                  f"in_flight={case.in_flight}", f"ring={case.ring}", f"both={case.both_ways:d}"]
        self._child = Child("guests", words, directory / "guests.log", who=unprivileged.identity(),
                            environment=dict(os.environ, XDG_RUNTIME_DIR=str(directory),
                                             RUNTIME_DIRECTORY=str(directory)),
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._child.process.stdout is not None
        self._answers = self._child.process.stdout

    def __enter__(self) -> Guests:
        try:
            while (line := self._answers.readline()) != b"ready\n":
                if not line:
                    self._child.process.wait(ANSWER_SECONDS)
                    self._child.check()
        except BaseException:
            self._child.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._child.stdin.close()  # it ends by itself, its rings in order
        try:
            self._child.process.wait(5)
        except subprocess.TimeoutExpired:
            self._child.kill()
        self._answers.close()

    def ask(self, line: str) -> dict[str, float]:
        """A command and its answer."""
        self._child.check()
        self._child.stdin.write(line.encode() + b"\n")
        self._child.stdin.flush()
        return parse_answer(self._answers.readline().decode())

    def start(self) -> None:
        """Make the addresses known and put the frames into circulation."""
        self._contender.ready()
        self.ask("learn")
        self.ask("start")

    def threads(self) -> list[int]:
        """The switch's and ours."""
        for task in Path(f"/proc/{self._child.pid}/task").iterdir():
            if (task / "comm").read_text().strip() in {"lcore-worker-1", "rte-worker-1"}:
                return [self._contender.thread(), int(task.name)]
        raise TestbedError("the load program has no working thread")

    def prefer(self) -> None:
        """Both ahead of everything else."""
        quiet.prefer(self.threads())

    def measure(self, seconds: float) -> Window:
        """Over the next seconds."""
        return measure(self, self._contender, seconds)

    def work(self) -> Cycles:
        """The pair's own."""
        answer = self.ask("stats")
        return Cycles(int(answer["cycles"]), int(answer["frames"]), int(answer["hz"] / 1e6))

    def packets(self) -> int:
        """Arrived at both ports of the pair."""
        return int(self.ask("stats")["arrived"])

    def lost(self) -> int:
        """Frames that were replaced; ends the load."""
        self.ask("stop")
        return int(self.ask("stats")["lost"])

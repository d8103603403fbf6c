# SPDX-License-Identifier: Apache-2.0
"""AF_XDP against the kernel's own bridge: the same veth pairs, the same sender, by turns.

Frames enter at ``far0`` as fast as the kernel takes them and are counted by the kernel where they
arrive, at ``far1``, where nobody reads them.  The sender's processor does the kernel's part of the
way: for the bridge all of it, so that what is sent arrives; for AF_XDP as far as the worker's ring,
and the worker has the other processor.  A worker whose processor is taken away loses frames, and so
a window in which it or the sender had to wait is measured again, for both alike.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from testbed import TestbedError
from tests.functional.hosts import RawSocket
from tests.functional.xdp_bed import Bed, Port, ip, missing, until
from vif_uswitch.dataplane.native import NativeSwitch

from . import quiet
from .load import parse_answer

NEAR = ("near0", "near1")
FAR = ("far0", "far1")
SOURCE, DESTINATION = bytes.fromhex("5254000000a0"), bytes.fromhex("5254000000b0")  # as in veths.c
WORKER = "us-worker-"
TRIES = 4  # windows, until one is quiet
QUIET = 0.05  # share of the time that a thread may have waited for its processor


def _arrived(bed: Bed) -> int:
    path = f"/sys/class/net/{FAR[1]}/statistics/rx_packets"
    return int(bed.far.run(["cat", path]).output)


def _window(bed: Bed, program: Path, cpu: int, seconds: float, size: int) -> tuple[float, float]:
    """Frames a second that arrive, and the share of the time that the sender had to wait."""
    before, started = _arrived(bed), time.monotonic()
    done = bed.far.run([str(program), FAR[0], str(cpu), str(seconds * 1000), str(size)])
    if done.rc:
        raise TestbedError(f"{program.name}: {done.output.strip()}")
    took = time.monotonic() - started
    arrived = _arrived(bed) - before
    # The program's start is part of the time, for both alike.
    return arrived / took, parse_answer(done.output)["waited"] / 1000


@contextlib.contextmanager
def preferred(wanted: bool) -> Iterator[None]:
    """Worker and sender are made, and inherit their priority, while the body runs."""
    before = os.getpriority(os.PRIO_PROCESS, 0)
    if wanted:
        quiet.prefer([threading.get_native_id()])
    try:
        yield
    finally:
        if wanted:
            os.setpriority(os.PRIO_PROCESS, 0, before)


def _rate(bed: Bed, program: Path, cpu: int, seconds: float, size: int,
          threads: Sequence[int] = ()) -> float:
    """Of the least disturbed window; the first moments are thrown away.  Our ``threads`` count."""
    _window(bed, program, cpu, min(seconds, 0.3), size)
    found: list[tuple[float, float]] = []  # how disturbed, rate
    while len(found) < TRIES and not (found and found[-1][0] <= QUIET):
        before = quiet.read(threads)
        rate, waited = _window(bed, program, cpu, seconds, size)
        found.append((max(waited, quiet.disturbance(before, quiet.read(threads))), rate))
    return min(found)[1]


@contextlib.contextmanager
def _bed(name: str) -> Iterator[Bed]:
    reason = missing()
    if reason:
        raise TestbedError(reason)
    bed = Bed(f"{name}{os.getpid()}")
    try:
        yield bed
    finally:
        bed.close()


def bridge(program: Path, cpus: tuple[int, int], seconds: float, size: int) -> float:
    """Both near ends in a bridge that knows where the destination is."""
    with _bed("usvb") as bed:
        for near, far in zip(NEAR, FAR, strict=True):
            bed.veth(near, far)
        try:
            ip("-n", bed.near.name, "link", "add", "join", "type", "bridge")
            for near in NEAR:
                ip("-n", bed.near.name, "link", "set", near, "master", "join")
            ip("-n", bed.near.name, "link", "set", "join", "up")
        except subprocess.CalledProcessError as error:
            raise TestbedError(f"a bridge: {error.stderr.strip()}") from error
        _announce(bed)
        return _rate(bed, program, cpus[1], seconds, size)


def af_xdp(program: Path, cpus: tuple[int, int], seconds: float, size: int) -> float:
    """Both near ends are ports of a switch, whose worker runs on a processor of its own."""
    with _bed("usvx") as bed, _switch_on(cpus[0]) as switch:
        ports = [Port(switch, bed, number, near, bed.attached(near, far), ring_size=0)
                 for number, (near, far) in enumerate(zip(NEAR, FAR, strict=True))]

        def announced() -> bool:
            _announce(bed)
            return all(port.page.incoming().frames for port in ports)

        until(announced, "both addresses are known")
        rate = _rate(bed, program, cpus[1], seconds, size, _workers())
        for port in ports:
            broken = port.page.broken()
            if broken is not None:
                raise TestbedError(f"port {port.id} was fenced: {broken.text}")
        return rate


def _announce(bed: Bed) -> None:
    """Both addresses become known."""
    for far, to, of in ((FAR[1], SOURCE, DESTINATION), (FAR[0], DESTINATION, SOURCE)):
        # Closed at once: who listens costs whichever processor brings the frames.
        with contextlib.closing(RawSocket(bed.far, far)) as raw:
            raw.send((to + of + b"\x88\xb5").ljust(60, b"\0"))
            time.sleep(0.1)


def _workers() -> list[int]:
    """Threads of this process that are a switch's."""
    tasks = Path("/proc/self/task").iterdir()
    return [int(task.name) for task in tasks if (task / "comm").read_text().startswith(WORKER)]


def _switch_on(cpu: int) -> NativeSwitch:
    """One whose worker stays there: threads inherit the processors of who makes them."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        return NativeSwitch(workers=1, poll_us=1000)
    finally:
        os.sched_setaffinity(0, before)

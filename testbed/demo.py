# SPDX-License-Identifier: Apache-2.0
"""``make demo``: two unmodified guests exchange packets through the switch, shown end to end.

Reads like the run itself.  ``run()`` prepares, starts the switch and two guests (one behind a
socket uswitchd listens on, one behind a socket QEMU listens on), makes them talk, looks at an idle
switch, and has ``verdict.py`` compare what the guests counted with what the switch counted.  Exit
status 0 only if every frame that should have arrived did.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from testbed import TestbedError, parts, traffic, unprivileged, verdict
from testbed.cache import Cache
from testbed.daemons import CpuUse, Switch, installed
from testbed.guest import Guest
from testbed.kept import Kept
from testbed.qemu import Mode, Network, Nic
from testbed.report import Report

SEGMENT = "demo"
IDLE_SECONDS = 5.0
PINGS = 50
PING_INTERVAL = 0.02
TCP_SECONDS = 3


@dataclass(frozen=True, slots=True)
class Place:
    """One guest of the demo and its port."""

    name: str
    mac: str
    ip: str
    ip6: str
    mode: Mode

    def network(self) -> Network:
        """Its addresses with their prefixes."""
        return Network(ip=f"{self.ip}/24", ip6=f"{self.ip6}/64")


PLACES = (
    Place("g0", "52:54:00:75:73:00", "10.9.0.1", "fd00:75:73::1", "client"),
    Place("g1", "52:54:00:75:73:01", "10.9.0.2", "fd00:75:73::2", "server"),
)


@dataclass(frozen=True, slots=True)
class Measured:
    """What the demo found out."""

    pings: dict[str, traffic.Ping]
    streams: dict[str, traffic.Stream]
    quiet: verdict.Difference  # while pings ran
    loaded: verdict.Difference  # while TCP ran
    idle: CpuUse
    starts: int  # of the dataplane; one too many means that it crashed and was replaced


def main(arguments: list[str] | None = None) -> int:
    """Entry point: 0 all arrived, 1 something did not or went wrong, 130 interrupted."""
    parser = argparse.ArgumentParser(prog="python -m testbed.demo",
                                     description="Two guests through the switch, end to end.")
    parser.add_argument("--keep", action="store_true", help="leave it running")
    parser.add_argument("--stop", action="store_true", help="end what --keep left running")
    parser.add_argument("--boot", action="store_true",
                        help="boot both guests instead of restoring a saved one")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    report = Report()
    try:
        if options.stop:
            return _stop(report)
        return run(report, keep=options.keep, boot=options.boot)
    except TestbedError as error:
        report.line(f"\nThe demo could not go on: {error}")
        return 1
    except KeyboardInterrupt:
        report.line("\ninterrupted; everything is stopped")
        return 130


def _stop(report: Report) -> int:
    try:
        Kept.load().stop()
        report.line("stopped")
    except TestbedError as error:
        report.line(f"nothing to stop: {error}")
    return 0


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def run(report: Report, *, keep: bool, boot: bool) -> int:
    """The whole demo."""
    with contextlib.suppress(TestbedError):
        Kept.load().stop()  # an earlier one would only be in the way
    who = unprivileged.identity()
    with contextlib.ExitStack() as cleanup:
        directory = unprivileged.own(Path(tempfile.mkdtemp(prefix="uswitch-demo-")), who)
        cleanup.callback(shutil.rmtree, directory, ignore_errors=True)
        with report.stage("Preparing kernel and initramfs") as stage:
            bed = parts.prepare(Cache(), stage.note)
            stage.result = f"Linux {bed.kernel.release}, {bed.machine.accel.name}"
        if bed.machine.accel.name == "tcg":
            report.line(f"  emulated guests: {bed.machine.accel.reason}")
        switch = _start_switch(report, directory, keep)
        cleanup.callback(switch.stop)
        guests = _start_guests(report, bed, switch, boot=boot, keep=keep, cleanup=cleanup)
        measured = _measure(report, switch, guests)
        _show(report, switch, measured)
        faults = verdict.faults(measured.pings, measured.quiet, measured.loaded)
        if measured.starts != 1:
            faults.append(f"uswitch-dataplane was started {measured.starts} times: it crashed")
        report.line()
        for fault in faults:
            report.line(f"FAULT: {fault}")
        report.line("FAILED" if faults else "Every frame that should have arrived did.")
        if keep:
            _keep(report, directory, switch, guests)
            cleanup.pop_all()
        return 1 if faults else 0


def _start_switch(report: Report, directory: Path, keep: bool) -> Switch:
    with report.stage("Starting uswitchd") as stage:
        switch = Switch(directory, outlive=keep)
        try:
            switch.start()
        except BaseException:
            switch.stop()
            raise
        stage.result = (f"user {switch.who.name}: uswitchd {switch.daemon_pid}, "
                        f"uswitch-dataplane {switch.dataplane_pid}")
    return switch


def _start_guests(report: Report, bed: parts.Parts, switch: Switch, *, boot: bool, keep: bool,
                  cleanup: contextlib.ExitStack) -> list[Guest]:
    guests = []
    with report.stage("Starting two guests") as stage:
        for place in PLACES:
            path = switch.add_port(place.name, mode=place.mode, segment=SEGMENT,
                                   macs=[place.mac])
            nic = Nic(path, place.mac, place.mode)
            if boot:
                guest = Guest(place.name, bed.machine, switch.directory, network=place.network(),
                              outlive=keep)
                cleanup.callback(guest.kill)
                guest.boot([nic])
            else:
                stage.note(f"restoring {place.name}")
                guest = bed.restored(place.name, switch.directory, stage.note,
                                     network=place.network(), outlive=keep)
                cleanup.callback(guest.kill)
                stage.note(f"plugging {place.name}'s NIC")
                guest.plug(nic, place.network())
            guests.append(guest)
        for place, guest in zip(PLACES, guests, strict=True):
            stage.note(f"waiting for {place.name}")
            if boot:
                guest.wait_ready()
            switch.wait_link(place.name)
        listening = {"client": "uswitchd listens", "server": "QEMU listens"}
        stage.result = ", ".join(f"{place.name}: {listening[place.mode]}" for place in PLACES)
    return guests


def _measure(report: Report, switch: Switch, guests: list[Guest]) -> Measured:
    pings: dict[str, traffic.Ping] = {}
    streams: dict[str, traffic.Stream] = {}
    first, second = PLACES
    ways = ((guests[0], second), (guests[1], first))
    counters = [verdict.settled(switch, guests)]
    for guest, other in ways:
        for label, address in (("IPv4", other.ip), ("IPv6", other.ip6)):
            title = f"{label} ping {guest.name} to {other.name}"
            with report.stage(title) as stage:
                answer = pings[title] = traffic.ping(guest, address, PINGS, PING_INTERVAL)
                stage.result = (f"{answer.received} of {answer.sent} answered, "
                                f"average {answer.average:.2f} ms")
    counters.append(verdict.settled(switch, guests))
    for (guest, other), server in zip(ways, reversed(guests), strict=True):
        title = f"TCP {guest.name} to {other.name}"
        with report.stage(title) as stage:
            stage.note(f"iperf3 for {TCP_SECONDS} s")
            flow = streams[title] = traffic.stream(guest, server, other.ip, TCP_SECONDS)
            stage.result = f"{flow.bits_per_second / 1e6:.0f} Mbit/s"
    counters.append(verdict.settled(switch, guests))
    with report.stage("Watching the idle switch") as stage:
        stage.note(f"{IDLE_SECONDS:.0f} s without traffic")
        idle = switch.cpu(IDLE_SECONDS)
        stage.result = f"uswitchd {idle.daemon:.1f} %, dataplane {idle.dataplane:.1f} % of a core"
    return Measured(pings, streams, verdict.difference(counters[0], counters[1]),
                    verdict.difference(counters[1], counters[2]), idle,
                    switch.call("show")["dataplane"]["starts"])


def _show(report: Report, switch: Switch, measured: Measured) -> None:
    report.heading("Negotiated")
    for place in PLACES:
        verdict.show_features(report, place.name, switch.wait_link(place.name))
    report.heading("Traffic")
    report.table(["ping", "sent", "received", "lost", "min ms", "avg ms", "max ms"],
                 [[title.replace(" ping", ""), p.sent, p.received, p.lost, p.minimum, p.average,
                   p.maximum] for title, p in measured.pings.items()])
    report.line()
    report.table(["stream", "Mbit/s", "MiB received", "retransmits"],
                 [[title, s.bits_per_second / 1e6, s.received_bytes / 2**20, s.retransmits]
                  for title, s in measured.streams.items()])
    report.heading("Frames, as counted by the guests and by the switch")
    verdict.show_frames(report, (("ping", measured.quiet), ("TCP", measured.loaded)))
    report.heading(f"CPU while idle, {IDLE_SECONDS:.0f} s")
    report.table(["process", "% of a core"], [["uswitchd", measured.idle.daemon],
                                              ["uswitch-dataplane", measured.idle.dataplane]])


def _keep(report: Report, directory: Path, switch: Switch, guests: list[Guest]) -> None:
    pids = [switch.daemon_pid, switch.dataplane_pid, *(guest.pid for guest in guests)]
    Kept.of(directory, pids).save()
    python, ctl = _short(sys.executable), _short(str(installed("uswitchctl")))
    report.heading("Still running")
    report.line(f"  log in to a guest    {python} -m testbed.shell g0   (Ctrl-] leaves)")
    report.line(f"  in it, for example   ping {PLACES[1].ip}; ip address; ethtool -k eth0")
    report.line(f"  look at the switch   export USWITCH_SOCKET={switch.control}")
    for words in ("show", "port list", "port show g0", "fdb list", "drops", "stats"):
        report.line(f"                       {ctl} {words}")
    report.line("  stop it              make demo-stop")


def _short(path: str) -> str:
    """As seen from the current directory, where that is shorter."""
    return min(path, os.path.relpath(path), key=len)


if __name__ == "__main__":
    sys.exit(main())

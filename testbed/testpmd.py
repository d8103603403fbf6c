# SPDX-License-Identifier: Apache-2.0
"""dpdk-testpmd: a second, independent virtio driver, and the switch to be compared with.

As a guest it drives ``net_virtio_user`` ports (client: it connects to a listening switch; server:
it listens, as QEMU does in server mode).  As a reference it holds ``net_vhost`` ports and forwards
between them.  It is operated through its own prompt, so counters are read while traffic runs.

It runs without huge pages by default: the memory is then one shared memfd, which vhost-user needs,
and any user can have it.  Threads float over all processors (``0@0-1,1@0-1``): pinning two busy
threads to one of two cores is how a small machine measures its scheduler.
"""

from __future__ import annotations

import os
import re
import selectors
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from testbed import TestbedError, unprivileged
from testbed.process import Child

PROGRAM = "dpdk-testpmd"
PROMPT = b"testpmd> "
START_SECONDS = 60.0
COMMAND_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class VirtioUser:
    """A guest-like port.  Options: ``mrg_rxbuf=0``, ``in_order=0``, ``vectorized=1``..."""

    path: Path
    mac: str
    listen: bool = False
    queues: int = 1
    queue_size: int = 256
    options: tuple[str, ...] = ()

    def vdev(self, number: int) -> str:
        """The EAL's description of the port."""
        words = [f"net_virtio_user{number}", f"path={self.path}", f"mac={self.mac}",
                 f"queues={self.queues}", f"queue_size={self.queue_size}"]
        return ",".join([*words, *(["server=1"] if self.listen else []), *self.options])


@dataclass(frozen=True, slots=True)
class Vhost:
    """A switch-like port.  Option ``client=1`` connects instead of listening."""

    path: Path
    queues: int = 1
    options: tuple[str, ...] = ()

    def vdev(self, number: int) -> str:
        """The EAL's description of the port."""
        return ",".join([f"net_vhost{number}", f"iface={self.path}", f"queues={self.queues}",
                         *self.options])


@dataclass(frozen=True, slots=True)
class Pcap:
    """A port that receives the frames of one file, once, and writes what it sends to another."""

    source: Path
    sink: Path
    queues: int = 1

    def vdev(self, number: int) -> str:
        """The EAL's description of the port."""
        return f"net_pcap{number},rx_pcap={self.source},tx_pcap={self.sink}"


Port = VirtioUser | Vhost | Pcap


@dataclass(frozen=True, slots=True)
class Cycles:
    """Time stamp cycles spent in passes that moved packets, the packets, and the clock's rate."""

    busy: int
    packets: int
    mhz: int


@dataclass(frozen=True, slots=True)
class Counters:
    """What one port has received and sent."""

    rx_packets: int
    rx_bytes: int
    tx_packets: int
    tx_bytes: int
    rx_missed: int = 0
    tx_dropped: int = 0


@dataclass(frozen=True, slots=True)
class Settings:
    """How testpmd runs; ``mode`` is a forwarding mode of its user guide."""

    mode: str = "io"
    cores: int = 1
    pin: tuple[int, ...] = ()  # one CPU for each forwarding core; the prompt's thread floats
    mbufs: int = 8192
    memory: int = 512
    descriptors: int = 256
    huge: bool = False
    peers: tuple[tuple[int, str], ...] = ()  # destination MAC by port, for txonly and flowgen
    eal: tuple[str, ...] = ()
    options: tuple[str, ...] = ()  # after "--": "--enable-rx-cksum", "--tx-offloads=0x8"


def command_line(name: str, ports: Sequence[Port], settings: Settings) -> list[str]:
    """The whole command, line buffered so that answers come before the next prompt."""
    cpus = ",".join(str(cpu) for cpu in sorted(os.sched_getaffinity(0)))
    places = [f"({cpus})", *(str(cpu) for cpu in settings.pin)]
    places += [f"({cpus})"] * (settings.cores + 1 - len(places))
    lcores = ",".join(f"{number}@{place}" for number, place in enumerate(places))
    memory = ["--in-memory", "--single-file-segments"] if settings.huge else ["--no-huge",
                                                                              "--no-shconf"]
    words = ["stdbuf", "-oL", PROGRAM, "--lcores", lcores, *memory, "-m", str(settings.memory),
             "--no-pci", "--no-telemetry", "--file-prefix", name, *settings.eal]
    for number, port in enumerate(ports):
        words += ["--vdev", port.vdev(number)]
    queues = max(port.queues for port in ports)
    words += ["--", "-i", "--no-mlockall", f"--forward-mode={settings.mode}",
              f"--nb-cores={settings.cores}", f"--total-num-mbufs={settings.mbufs}",
              f"--rxq={queues}", f"--txq={queues}", f"--rxd={settings.descriptors}",
              f"--txd={settings.descriptors}"]
    words += [f"--eth-peer={port},{mac}" for port, mac in settings.peers]
    return [*words, *settings.options]


def parse_stats(text: str) -> dict[int, Counters]:
    """The answer to ``show port stats all``."""
    found = {}
    for chunk in text.split("NIC statistics for port ")[1:]:
        values = {key: int(value) for key, value in re.findall(r"([RT]X-\w+): +(\d+)", chunk)}
        found[int(chunk.split()[0])] = Counters(
            values["RX-packets"], values["RX-bytes"], values["TX-packets"], values["TX-bytes"],
            rx_missed=values.get("RX-missed", 0))
    return found


def parse_dropped(text: str) -> dict[int, int]:
    """Frames testpmd could not send, by port, from what ``stop`` prints."""
    pattern = r"statistics for port (\d+) .*?TX-dropped: (\d+)"
    return {int(port): int(count) for port, count in re.findall(pattern, text, re.DOTALL)}


def parse_cycles(text: str) -> Cycles:
    """The last line of ``show fwd stats all``; it is missing before the first packet."""
    found = re.search(r"total cycles=(\d+) / total \S+ packets=(\d+)\) at (\d+) MHz", text)
    return Cycles(int(found[1]), int(found[2]), int(found[3])) if found else Cycles(0, 0, 0)


class Testpmd:
    """A running dpdk-testpmd."""

    __test__ = False  # not a test, whatever pytest thinks of the name

    def __init__(self, name: str, directory: Path, ports: Sequence[Port],
                 settings: Settings | None = None) -> None:
        """Start it; wait() returns once its ports are up."""
        who = unprivileged.identity()
        environment = dict(os.environ, XDG_RUNTIME_DIR=str(directory))
        self.name = name
        self._output = b""
        self._child = Child(name, command_line(name, ports, settings or Settings()),
                            directory / f"{name}.log", who=who, environment=environment,
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._child.process.stdout is not None
        self._stdout = self._child.process.stdout
        os.set_blocking(self._stdout.fileno(), False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._stdout, selectors.EVENT_READ)

    def __enter__(self) -> Testpmd:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """Of dpdk-testpmd."""
        return self._child.pid

    def wait(self, timeout: float = START_SECONDS) -> str:
        """Wait for the first prompt: every port has found its peer.  Returns what was said."""
        return self._answer(timeout, "starting")

    def command(self, line: str, timeout: float = COMMAND_SECONDS) -> str:
        """Give one line at the prompt and return the answer."""
        self.poll()
        self._output = b""
        self._child.stdin.write(line.encode() + b"\n")
        self._child.stdin.flush()
        return self._answer(timeout, line)

    def start(self, tx_first: int | None = None) -> None:
        """Start forwarding, after sending ``tx_first`` bursts out of each port."""
        self.command("start" if tx_first is None else f"start tx_first {tx_first}")

    def stop(self) -> dict[int, Counters]:
        """Stop forwarding; counters with the frames that could not be sent."""
        dropped = parse_dropped(self.command("stop"))
        return {port: Counters(c.rx_packets, c.rx_bytes, c.tx_packets, c.tx_bytes, c.rx_missed,
                               dropped.get(port, 0)) for port, c in self.stats().items()}

    def stats(self) -> dict[int, Counters]:
        """Counters by port number, traffic running or not."""
        return parse_stats(self.command("show port stats all"))

    def cycles(self) -> Cycles:
        """Since start(), running or not; ``set record-core-cycles on`` must come before."""
        return parse_cycles(self.command("show fwd stats all"))

    def forwarders(self) -> list[int]:
        """Thread ids of the forwarding cores, which are named after their lcores."""
        found = {}
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            lcore = re.fullmatch(r"(?:lcore-worker-|rte-worker-)(\d+)",
                                 (task / "comm").read_text().strip())
            if lcore:
                found[int(lcore[1])] = int(task.name)
        return [found[lcore] for lcore in sorted(found)]

    def rate(self, seconds: float) -> dict[int, float]:
        """Packets a second each port receives, over an interval measured here."""
        first, started = self.stats(), time.monotonic()
        time.sleep(seconds)
        second, elapsed = self.stats(), time.monotonic() - started
        return {port: (second[port].rx_packets - first[port].rx_packets) / elapsed
                for port in first}

    def settle(self, quiet: float = 0.5, timeout: float = COMMAND_SECONDS) -> dict[int, Counters]:
        """Wait until the counters stand still, and return them."""
        deadline = time.monotonic() + timeout
        last = self.stats()
        while time.monotonic() < deadline:
            time.sleep(quiet)
            now = self.stats()
            if now == last:
                return now
            last = now
        raise TestbedError(f"{self.name}: traffic did not come to rest in {timeout:.0f} s")

    def kill(self) -> None:
        """End it as a crash would."""
        self._child.kill()
        self._release()

    def close(self) -> None:
        """Ask it to quit, so that it takes its rings down in order."""
        if self._child.alive():
            try:
                self._child.stdin.write(b"quit\n")
                self._child.stdin.flush()
                deadline = time.monotonic() + 5
                while self._child.alive() and time.monotonic() < deadline:
                    self.poll()
                    time.sleep(0.05)
            except OSError:
                pass  # it died while we asked
        self._child.stop()
        self._release()

    def _release(self) -> None:
        self._selector.close()
        self._stdout.close()
        self._child.stdin.close()

    def poll(self) -> None:
        """Take what it printed, so that a talkative one never blocks on a full pipe."""
        while data := self._stdout.read(65536):
            self._output += data
            with self._child.log.open("ab") as stream:
                stream.write(data)

    def _answer(self, timeout: float, what: str) -> str:
        deadline = time.monotonic() + timeout
        while PROMPT not in self._output:  # not "at the end": news of ports may follow it
            if time.monotonic() > deadline:
                raise TestbedError(f"{self.name}: no answer to '{what}' in {timeout:.0f} s:\n"
                                   f"{self._child.tail()}")
            self._selector.select(0.2)
            self.poll()
            self._child.check()
        return self._output.partition(PROMPT)[0].decode(errors="replace")

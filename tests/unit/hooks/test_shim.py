# SPDX-License-Identifier: Apache-2.0
"""The script that libvirt calls: what it does not need Python for, and how it finds it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

import vif_uswitch

SHELL = shutil.which("sh") or "/bin/sh"
SHIM = Path(__file__).resolve().parents[3] / "etc/libvirt/hooks/qemu.d/50-uswitch"
PLAIN = "<domain><name>a b</name><interface type='network'/></domain>"
VHOST = "<domain><interface type='vhostuser'/>\n\\n%s \"quoted\" ö</domain>"
METADATA = '<domain><uswitch:ports xmlns:uswitch="urn:vif-uswitch:domain:1"/></domain>'
NOTING = """#!/bin/sh
for word in "$@"; do printf '%s\\n' "$word" >> "$0.words"; done
cat > "$0.stdin"
exit 3
"""


class Called:
    """A python3 that notes how it was called."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.program = directory / "python3"
        self.program.write_text(NOTING)
        self.program.chmod(0o755)

    def hook(self, operation: str, xml: str, alone: bool = False) -> int:
        """``alone``: there is no other program than the shell and what this directory has."""
        path = str(self.directory) if alone else f"{self.directory}:{os.environ['PATH']}"
        return subprocess.run(
            [SHELL, SHIM, "the domain", operation, "begin", "-"], input=xml.encode(), timeout=30,
            check=False, capture_output=True, env={"PATH": path},
        ).returncode  # fmt: skip

    def wait(self) -> None:
        """Until it was called and has ended, which libvirt does not wait for at release."""
        end = time.monotonic() + 30
        path = Path(f"{self.program}.stdin")
        while not (path.exists() and path.stat().st_size):
            assert time.monotonic() < end, "it was not called"
            time.sleep(0.01)

    def words(self) -> list[str]:
        path = Path(f"{self.program}.words")
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def called(tmp_path: Path) -> Called:
    return Called(tmp_path)


@pytest.mark.skipif(Path("/opt/uswitch/bin/python3").exists(), reason="installed in /opt/uswitch")
@pytest.mark.parametrize("operation", ["prepare", "release", "reconnect", "migrate", "restore"])
@pytest.mark.parametrize("xml", [VHOST, METADATA])
def test_it_hands_over_what_may_be_ours(called: Called, operation: str, xml: str) -> None:
    assert called.hook(operation, xml) == (0 if operation in ("reconnect", "release") else 3)
    called.wait()
    words = called.words()
    assert words[0] in ("-I", "-IS") and words[-4:] == ["the domain", operation, "begin", "-"]
    assert Path(f"{called.program}.stdin").read_text() == f"{xml}\n"


@pytest.mark.skipif(Path("/opt/uswitch/bin/python3").exists(), reason="installed in /opt/uswitch")
def test_libvirt_does_not_wait_for_a_release(called: Called) -> None:
    """Neither for its end nor for that of its output; when the guest ended goes with it."""
    fifo = called.directory / "held"
    os.mkfifo(fifo)
    called.program.write_text(
        f"#!/bin/sh\nread -r _ < {fifo}\necho $USWITCH_ENDED_AT > $0.stdin\n")
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert called.hook("release", VHOST) == 0
    after = time.clock_gettime(time.CLOCK_BOOTTIME)
    fifo.write_text("go on\n")
    called.wait()
    ended = float(Path(f"{called.program}.stdin").read_text())
    assert before - 0.02 <= ended <= after


@pytest.mark.skipif(Path("/opt/uswitch/bin/python3").exists(), reason="installed in /opt/uswitch")
@pytest.mark.parametrize(("operation", "status"), [("prepare", 127), ("reconnect", 0)])
def test_without_python_guests_that_run_go_on(
    called: Called, operation: str, status: int
) -> None:
    """libvirt kills a running guest whose hook fails at reconnect."""
    called.program.unlink()
    (called.directory / "cat").symlink_to(shutil.which("cat") or "/bin/cat")
    assert called.hook(operation, VHOST, alone=True) == status


@pytest.mark.parametrize(("operation", "xml"), [
    ("prepare", PLAIN), ("release", PLAIN), ("prepare", ""),
    ("start", VHOST), ("started", VHOST), ("stopped", VHOST), ("attach", VHOST), ("", VHOST),
])
def test_it_ends_without_python_for_all_others(called: Called, operation: str, xml: str) -> None:
    assert called.hook(operation, xml) == 0
    assert called.words() == []


def test_the_package_is_found_by_its_python(tmp_path: Path) -> None:
    """The real thing: what is no domain is refused by our code, not by a missing module."""
    (tmp_path / "python3").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (tmp_path / "python3").chmod(0o755)
    done = subprocess.run(
        ["sh", SHIM, "vm1", "prepare", "begin", "-"], input="<vhostuser/>", timeout=60, check=False,
        text=True, capture_output=True, env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == ("uswitch: prepare of domain vm1: domain XML: begins with <vhostuser>,"
                           " not <domain>\n")


def test_its_last_words_are_heard() -> None:
    """It ends without tidying up, whoever reads what it says."""
    code = ("import sys; from vif_uswitch.hooks.qemu import end; "
            "sys.stdout.write('out'); sys.stderr.write('err'); end(7)")
    done = subprocess.run([sys.executable, "-c", code], timeout=60, check=False, text=True,
                          capture_output=True)  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (7, "out", "err")
    with Path("/dev/full").open("w") as full:
        nobody = subprocess.run([sys.executable, "-I", "-c", code], timeout=60, check=False,
                                stdout=full)
    assert nobody.returncode == 7


# What each of these takes, libvirt waits for at each start of a guest.
SLOW = {"argparse", "asyncio", "configparser", "dataclasses", "inspect", "logging", "pathlib",
        "site", "subprocess", "tempfile", "typing", "urllib"}  # fmt: skip


def test_it_imports_nothing_that_takes_long() -> None:
    code = ("import sys; sys.path.append(sys.argv[1]); import vif_uswitch.hooks.qemu;"
            " print(*sys.modules)")  # fmt: skip
    top = Path(vif_uswitch.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, top], timeout=60, check=True, text=True,
        capture_output=True,
    )  # fmt: skip
    assert "vif_uswitch.client" in done.stdout.split()
    assert not SLOW & set(done.stdout.split())


def test_it_can_be_run() -> None:
    assert os.access(SHIM, os.X_OK)

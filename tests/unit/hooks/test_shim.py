# SPDX-License-Identifier: Apache-2.0
"""The script that libvirt calls: what it does not need Python for, and how it finds it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
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
    """The script, a directory for what it keeps, and a python3 that notes how it was called."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.kept = directory / "run"
        self.kept.mkdir()
        self.script = directory / "hook"
        text = SHIM.read_text().replace("/run/libvirt", str(self.kept))
        self.script.write_text(text.replace("/opt/uswitch", str(directory / "opt")))
        self.program = directory / "python3"
        self.be(NOTING)

    def be(self, text: str) -> None:
        self.program.write_text(text)
        self.program.chmod(0o755)

    def call(self, operation: str, xml: str = VHOST, path: str = "") -> tuple[int, str]:
        """Exit status and what it complains of."""
        done = subprocess.run(
            [SHELL, self.script, "the domain", operation, "begin", "-"], input=xml, timeout=30,
            check=False, capture_output=True, text=True,
            env={"PATH": path or f"{self.directory}:{os.environ['PATH']}"},
        )  # fmt: skip
        return done.returncode, done.stderr

    def hook(self, operation: str, xml: str) -> int:
        """Its status; prepare's is told by the next call."""
        status, _ = self.call(operation, xml)
        if operation != "prepare" or status:
            return status
        return self.call("start")[0]

    def wait(self) -> None:
        """Until it was called and has ended, which libvirt does not wait for at release."""
        path = Path(f"{self.program}.stdin")
        self.until(lambda: path.exists() and path.stat().st_size > 0)

    def until(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.01)

    def words(self) -> list[str]:
        path = Path(f"{self.program}.words")
        return path.read_text().splitlines() if path.exists() else []

    def left(self) -> list[str]:
        return sorted(path.name for path in self.kept.iterdir())


@pytest.fixture
def called(tmp_path: Path) -> Called:
    return Called(tmp_path)


@pytest.mark.parametrize("operation", ["prepare", "release", "reconnect", "migrate", "restore"])
@pytest.mark.parametrize("xml", [VHOST, METADATA])
def test_it_hands_over_what_may_be_ours(called: Called, operation: str, xml: str) -> None:
    assert called.hook(operation, xml) == (0 if operation in ("reconnect", "release") else 3)
    called.wait()
    words = called.words()
    assert words[0] in ("-I", "-IS") and words[-4:] == ["the domain", operation, "begin", "-"]
    assert Path(f"{called.program}.stdin").read_text() == f"{xml}\n"


def test_libvirt_does_not_wait_for_a_release(called: Called) -> None:
    """Neither for its end nor for that of its output; when the guest ended goes with it."""
    fifo = called.directory / "held"
    os.mkfifo(fifo)
    called.be(f"#!/bin/sh\nread -r _ < {fifo}\necho $USWITCH_CALLED_AT > $0.stdin\n")
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert called.hook("release", VHOST) == 0
    after = time.clock_gettime(time.CLOCK_BOOTTIME)
    fifo.write_text("go on\n")
    called.wait()
    ended = float(Path(f"{called.program}.stdin").read_text())
    assert before - 0.02 <= ended <= after


def test_prepare_works_while_libvirt_goes_on(called: Called) -> None:
    """And the last call before QEMU waits for it, and gives its answer."""
    fifo = called.directory / "held"
    os.mkfifo(fifo)
    called.be(f"#!/bin/sh\nread -r _ < {fifo}\necho no port >&2\nexit 3\n")
    assert called.call("prepare") == (0, "")
    with ThreadPoolExecutor(1) as pool:
        start = pool.submit(called.call, "start")
        time.sleep(0.2)
        assert not start.done()
        fifo.write_text("go on\n")
        assert start.result() == (3, "no port\n")
    assert called.left() == []
    assert called.call("start") == (0, "")  # of a domain without a prepare


@pytest.mark.parametrize("why", ["missing", "another's", "name too long"])
def test_prepare_answers_itself_where_it_can_keep_nothing(called: Called, why: str) -> None:
    if why == "missing":
        called.kept.rmdir()
    elif why == "another's":
        if os.geteuid() != 0:
            pytest.skip("needs root")
        os.chown(called.kept, 65534, 65534)
    else:
        called.script.write_text(called.script.read_text().replace("uswitch-hook-", "x" * 255))
    assert called.call("prepare")[0] == 3
    assert not called.kept.exists() or called.left() == []
    assert called.call("start") == (0, "")


def test_a_start_that_was_given_up_is_released(called: Called) -> None:
    """libvirt found something else that is wrong: what prepare makes meanwhile goes, too."""
    fifo = called.directory / "held"
    os.mkfifo(fifo)
    called.be('#!/bin/sh\necho "$5 $USWITCH_CALLED_AT" >> $0.words\n'
              f'[ $5 = release ] || read -r _ < {fifo}\ncat > $0.stdin\n')
    assert called.call("prepare") == (0, "")
    assert called.call("release") == (0, "")
    called.until(lambda: len(called.words()) == 1)
    time.sleep(0.2)
    assert [word.split()[0] for word in called.words()] == ["prepare"]
    fifo.write_text("go on\n")
    called.until(lambda: len(called.words()) == 2 and called.left() == [])
    (_, asked), (_, ended) = (word.split() for word in called.words())
    assert float(asked) < float(ended) < float(asked) + 5


def test_a_prepare_that_gives_no_answer_is_told(called: Called) -> None:
    """It was killed: libvirt is not kept for ever, and the start is refused with a reason."""
    text = called.script.read_text()
    assert "patience=70" in text
    called.script.write_text(text.replace("patience=70", "patience=1"))
    (called.kept / "uswitch-hook-the domain.said").touch()
    assert called.call("start") == (
        1, "uswitch: prepare of domain the domain gave no answer in 1 s\n")
    assert called.left() == []


def test_a_start_after_one_that_was_given_up(called: Called) -> None:
    """Its answer is its own: the former one's is there, or is still to come."""
    called.be("#!/bin/sh\nexit 5\n")
    assert called.call("prepare") == (0, "")
    called.until(lambda: len(called.left()) == 2)
    called.be(NOTING)
    assert called.call("prepare")[0] == 3
    assert called.left() == []
    assert called.call("start") == (0, "")


@pytest.mark.parametrize(("operation", "status"), [("prepare", 0), ("start", 127),
                                                   ("reconnect", 0)])  # fmt: skip
def test_without_python_guests_that_run_go_on(
    called: Called, operation: str, status: int
) -> None:
    """libvirt kills a running guest whose hook fails at reconnect; it does not start another."""
    called.program.unlink()
    for tool in ("cat", "rm", "sleep"):
        (called.directory / tool).symlink_to(shutil.which(tool) or f"/bin/{tool}")
    if operation == "start":
        assert called.call("prepare", path=str(called.directory)) == (0, "")
    assert called.call(operation, path=str(called.directory))[0] == status


@pytest.mark.parametrize(("operation", "xml"), [
    ("prepare", PLAIN), ("release", PLAIN), ("prepare", ""),
    ("started", VHOST), ("stopped", VHOST), ("attach", VHOST), ("", VHOST),
])
def test_it_ends_without_python_for_all_others(called: Called, operation: str, xml: str) -> None:
    assert called.hook(operation, xml) == 0
    assert called.words() == []


def test_the_package_is_found_by_its_python(tmp_path: Path) -> None:
    """The real thing: what is no domain is refused by our code, not by a missing module."""
    (tmp_path / "python3").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (tmp_path / "python3").chmod(0o755)
    done = subprocess.run(
        ["sh", SHIM, "vm1", "restore", "begin", "-"], input="<vhostuser/>", timeout=60, check=False,
        text=True, capture_output=True, env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == ("uswitch: restore of domain vm1: domain XML: begins with <vhostuser>,"
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
        "site", "subprocess", "tempfile", "typing", "urllib", "xml.etree"}  # fmt: skip


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

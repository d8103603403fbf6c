# SPDX-License-Identifier: Apache-2.0
"""tools/setup_host.py: what it reads in bindep.txt and what it asks apt for (apt is played)."""

from __future__ import annotations

import pathlib
import subprocess
from collections.abc import Sequence

import pytest

from tools import setup_host
from tools.setup_host import Package

TOP = pathlib.Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(("line", "profiles", "chosen"), [
    ("gcc", set(), True),
    ("gcc [build]", {"build"}, True),
    ("gcc [build]", {"test"}, False),
    ("gcc [build test]", {"test"}, True),
    ("gcc [platform:dpkg]", set(), True),
    ("gcc [platform:rpm build]", {"build"}, False),
    ("gcc [platform:dpkg build]", {"build"}, True),
    ("gcc [platform:dpkg build]", set(), False),
    ("gcc [!platform:dpkg build]", {"build"}, False),
    ("gcc [build !test]", {"build", "test"}, False),
    ("gcc  # a comment", set(), True),
    ("# gcc", set(), False),
])
def test_selectors(line: str, profiles: set[str], chosen: bool) -> None:
    assert setup_host.parse_bindep(line, profiles) == ([Package("gcc")] if chosen else [])


def test_versions() -> None:
    line = "qemu-system-x86 [platform:dpkg demo] >=1:10.0"
    assert setup_host.parse_bindep(line, {"demo"}) == [Package("qemu-system-x86", ">=", "1:10.0")]


@pytest.mark.parametrize("line", ["gcc [build", "gcc build", "-gcc", "gcc >= ", "gcc; reboot"])
def test_what_it_cannot_read_is_an_error(line: str) -> None:
    with pytest.raises(setup_host.SetupError, match=r"bindep.txt:2"):
        setup_host.parse_bindep(f"\n{line}\n", set())


def test_our_own_file() -> None:
    text = (TOP / "bindep.txt").read_text(encoding="utf-8")
    build = {package.name for package in setup_host.parse_bindep(text, {"build"})}
    test = {package.name for package in setup_host.parse_bindep(text, {"test"})}
    assert {"gcc", "python3-venv", "liburcu-dev"} <= build
    assert {"clang-tidy", "qemu-system-x86"} <= test
    assert "clang-tidy" not in build
    assert not {"virt-manager", "xvfb"} & (build | test), "a desktop is the profile desktop's alone"


class Host:
    """Plays dpkg-query, apt-cache and apt-get for the module under test."""

    def __init__(self, installed: dict[str, str], suites: dict[str, dict[str, str]],
                 complete: tuple[str, ...] = ()) -> None:
        self.installed = installed
        self.complete = complete  # packages that need nothing which is not named beside them
        self.suites = suites  # suite -> package -> version; the first one is preferred
        self.calls: list[tuple[str, ...]] = []
        self.files: dict[pathlib.Path, str] = {}

    def run(self, command: Sequence[str], **_options: object) -> subprocess.CompletedProcess[str]:
        if command[0] == "dpkg":
            return subprocess.run(command, capture_output=True, text=True, check=False)
        text = ""
        if command[0] == "dpkg-query":
            text = "".join(f"{name}\tii \t{version}\n" for name, version in self.installed.items()
                           if name in command)
        elif command[:2] == ["apt-cache", "madison"]:
            text = "".join(
                f" {name} | {versions[name]} | mirror {suite}/main amd64 Packages\n"
                for suite, versions in self.suites.items() for name in command[2:]
                if name in versions)
        elif command[:2] == ["apt-cache", "policy"]:
            best = next((versions[command[2]] for versions in self.suites.values()
                         if command[2] in versions), "(none)")
            text = f"{command[2]}:\n  Installed: (none)\n  Candidate: {best}\n"
        elif command[:2] == ["apt-get", "indextargets"]:
            text = "mirror:/debian/\n"
        elif command[:4] == ["apt-get", "-q", "-s", "install"]:
            names = {word.split("=")[0] for word in command[5:]}
            status = 0 if names <= set(self.complete) else 100
            return subprocess.CompletedProcess(list(command), status, "", "")
        else:
            pytest.fail(f"unexpected command {command}")
        return subprocess.CompletedProcess(list(command), 0, text, "")

    def apt(self, *arguments: str, must_work: bool = True) -> None:
        self.calls.append(arguments)
        if arguments[0] == "update" and setup_host.SOURCE_FILE in self.files:
            self.suites["bookworm-backports"] = {"qemu-system-x86": "1:10.0.2+ds-2~bpo12+1"}
        if arguments[0] == "install":
            suite = arguments[arguments.index("-t") + 1] if "-t" in arguments else None
            for name in (word.split("=")[0] for word in arguments):
                for offered, versions in self.suites.items():
                    if name in versions and suite in (None, offered):
                        self.installed.setdefault(name, versions[name])


def play(monkeypatch: pytest.MonkeyPatch, host: Host) -> Host:
    played = {"run": host.run, "DEVNULL": subprocess.DEVNULL}
    monkeypatch.setattr(setup_host, "subprocess", type("S", (), played))
    monkeypatch.setattr(setup_host, "apt", host.apt)
    monkeypatch.setattr(setup_host, "install_file", host.files.__setitem__)
    monkeypatch.setattr(setup_host, "release",
                        lambda: {"ID": "debian", "VERSION_CODENAME": "bookworm"})
    monkeypatch.setattr("shutil.which",
                        lambda name: f"/usr/bin/{name}" if name == "dpkg-query" else None)
    return host


QEMU = Package("qemu-system-x86", ">=", "1:10.0")
OLD = "1:7.2+dfsg-7"


def test_nothing_missing_asks_apt_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    host = play(monkeypatch, Host({"gcc": "12", "qemu-system-x86": "1:10.0.2"}, {}))
    assert setup_host.missing([Package("gcc"), QEMU]) == []
    assert host.calls == []


def test_an_old_version_counts_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    play(monkeypatch, Host({"qemu-system-x86": OLD}, {}))
    assert setup_host.missing([QEMU]) == [QEMU]


def test_plain_packages_bring_no_backports(monkeypatch: pytest.MonkeyPatch) -> None:
    host = play(monkeypatch, Host({}, {"bookworm": {"gcc": "12"}}))
    setup_host.install([Package("gcc")])
    assert host.calls == [("update",), ("install", "--no-install-recommends", "gcc")]
    assert host.files == {}


def test_backports_are_added_when_the_release_is_too_old(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    host = play(monkeypatch, Host({}, {"bookworm": {"gcc": "12", "qemu-system-x86": OLD}}))
    setup_host.install([Package("gcc"), QEMU])
    source, pin = host.files[setup_host.SOURCE_FILE], host.files[setup_host.PIN_FILE]
    assert "URIs: mirror:/debian/\nSuites: bookworm-backports\n" in source
    assert "Pin: release n=bookworm-backports\nPin-Priority: 50\n" in pin
    assert host.calls[-1] == ("install", "--no-install-recommends", "-t", "bookworm-backports",
                              "qemu-system-x86")
    assert "not usable for this test bed" in capsys.readouterr().out
    assert host.installed == {"gcc": "12", "qemu-system-x86": "1:10.0.2+ds-2~bpo12+1"}


def test_configured_backports_are_used_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    host = play(monkeypatch, Host({}, {"bookworm": {"qemu-system-x86": OLD},
                                       "bookworm-backports": {"qemu-system-x86": "1:10.0.2"}}))
    setup_host.install([QEMU])
    assert host.files == {}
    assert "bookworm-backports" in host.calls[-1]


def test_parts_of_one_version_come_without_the_rest_of_their_suite(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the suite preferred, apt would move what those parts depend on as well.

    libvirt-daemon is in no other suite, and so apt's candidate although that suite is pinned low.
    """
    parts = {"libvirt0": "11.3-1", "libvirt-daemon": "11.3-1"}
    suites = {"bookworm": {"libvirt0": "9.0-4", "qemu-system-x86": OLD},
              "bookworm-backports": {**parts, "qemu-system-x86": "1:10.0.2"}}
    host = play(monkeypatch, Host({}, suites, complete=tuple(parts)))
    setup_host.install([Package("libvirt0", ">=", "11.0"), QEMU,
                        Package("libvirt-daemon", ">=", "11.0")])
    assert host.calls[1:] == [
        ("install", "--no-install-recommends", "libvirt0=11.3-1", "libvirt-daemon=11.3-1"),
        ("install", "--no-install-recommends", "-t", "bookworm-backports", "qemu-system-x86"),
    ]


def test_a_newer_release_needs_no_backports(monkeypatch: pytest.MonkeyPatch) -> None:
    host = play(monkeypatch, Host({}, {"trixie": {"qemu-system-x86": "1:10.0.2"}}))
    setup_host.install([QEMU])
    assert host.calls[-1] == ("install", "--no-install-recommends", "qemu-system-x86")


def test_a_package_nobody_has(monkeypatch: pytest.MonkeyPatch) -> None:
    play(monkeypatch, Host({}, {"bookworm": {}}))
    with pytest.raises(setup_host.SetupError, match="nosuch"):
        setup_host.install([Package("nosuch")])

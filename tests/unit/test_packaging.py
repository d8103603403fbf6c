# SPDX-License-Identifier: Apache-2.0
"""What is installed beside Python: that it is all there, that it fits together, that systemd and
AppArmor can read it.

Units, users, directories, documentation and setup.cfg name the same programs,
paths and groups; here that is compared.  Whether ``uswitchd`` works under its
unit's restrictions is tested in ``tests/functional/test_unit_sandbox.py``.
"""

from __future__ import annotations

import configparser
import fnmatch
import pathlib
import re
import shutil
import subprocess
from collections.abc import Callable

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
PREFIX = "/opt/uswitch"
UNITS = sorted(path for path in (TOP / "etc/systemd").rglob("*") if path.is_file())
USER_UNIT = TOP / "etc/systemd/user/uswitchd.service"
Tool = Callable[..., subprocess.CompletedProcess[str]]


def named(path: pathlib.Path) -> str:
    return path.relative_to(TOP / "etc/systemd").as_posix()


def setup_cfg() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(TOP / "setup.cfg", encoding="utf-8")
    return parser


def data_files() -> dict[str, str]:
    """Where each file is installed below the prefix -> what it is in the repository."""
    found: dict[str, str] = {}
    where = ""
    for line in setup_cfg()["files"]["data_files"].strip().splitlines():
        left, equals, right = line.partition("=")
        where = left.strip() if equals else where
        source = (right if equals else left).strip()
        if source:
            found[f"{where}/{source.rsplit('/', 1)[1]}"] = source
    return found


def programs() -> set[str]:
    section = setup_cfg()["entry_points"]["console_scripts"].strip().splitlines()
    scripts = setup_cfg()["files"]["scripts"].strip().splitlines()
    return {line.split("=")[0].strip() for line in section} | {
        line.rsplit("/", 1)[1] for line in scripts}  # fmt: skip


def unit(path: pathlib.Path) -> dict[str, list[str]]:
    """Each key of a unit with its values, continued lines joined."""
    text = re.sub(r"\\\n\s*", "", path.read_text(encoding="utf-8"))
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def test_everything_in_etc_is_installed_once() -> None:
    """Generators of samples aside; and what setup.cfg names is there."""
    installed = sorted(data_files().values())
    there = sorted(
        path.relative_to(TOP).as_posix() for path in (TOP / "etc").rglob("*")
        if path.is_file() and not path.name.endswith("-config-generator.conf")
    )  # fmt: skip
    assert installed == there
    assert len(set(installed)) == len(installed)


@pytest.mark.parametrize("path", UNITS, ids=named)
def test_units_start_what_is_installed(path: pathlib.Path) -> None:
    for command in unit(path).get("ExecStart", []):
        program = command.split()[0]
        assert program.startswith(f"{PREFIX}/bin/"), command
        assert program.removeprefix(f"{PREFIX}/bin/") in programs(), command


def documents() -> list[pathlib.Path]:
    return [*sorted((TOP / "doc/source").glob("*.rst")), TOP / "README.rst",
            *sorted((TOP / "etc").rglob("*.*"))]  # fmt: skip


def test_documents_name_what_is_installed() -> None:
    """Programs below the prefix, and files of share/vif-uswitch."""
    installed = set(data_files())
    directories = {str(parent) for name in installed for parent in pathlib.Path(name).parents}
    seen = 0
    for path in documents():
        if not path.is_file():
            continue
        text = path.read_text(encoding="utf-8")
        for name in re.findall(rf"{PREFIX}/bin/([a-z][\w-]*)", text):
            assert name in programs() or name in ("pip", "python3"), (path.name, name)
            seen += 1
        for name in re.findall(r"share/vif-uswitch[\w/.@*-]*[\w*]", text):
            assert name in directories or fnmatch.filter(installed, name), (path.name, name)
            seen += 1
        if path.name in ("install.rst", "packaging.rst"):
            places = r"systemd|sysusers\.d|tmpfiles\.d|udev|apparmor\.d|etc"
            below = rf"(?<![\w/])((?:{places})/[\w.@/-]+)"
            for name in re.findall(rf"(?:``| ){below}", text):
                assert f"share/vif-uswitch/{name}" in installed, (path.name, name)
                seen += 1
    assert seen > 20


def test_programs_that_the_documentation_lists_are_all() -> None:
    text = (TOP / "doc/source/install.rst").read_text(encoding="utf-8")
    listed = set(re.findall(r"(?m)^``([\w-]+)``  ", text))
    assert programs() <= listed


def test_packaging_lists_all_files() -> None:
    """The first column of its table; "``@.service``" is another ending of the name before."""
    text = (TOP / "doc/source/packaging.rst").read_text(encoding="utf-8")
    rows = re.findall(r"(?m)^(``\S.*?)  ", text)
    listed: set[str] = set()
    for row in rows:
        before = ""
        for name in re.findall(r"``([^`]+)``", row):
            if not name.startswith(("@", ".")):
                before = name.rsplit("/", 1)[-1]
                listed.add(before)
            else:
                listed.add(before.rsplit(".", 1)[0] + name)
    missing = sorted(name for name in data_files() if name.rsplit("/", 1)[1] not in listed)
    assert not missing


# ---- users, directories, units: one story ----

def lines(path: str) -> list[list[str]]:
    text = (TOP / path).read_text(encoding="utf-8")
    return [line.split() for line in text.splitlines() if line and not line.startswith("#")]


def test_users_and_directories_agree_with_the_unit() -> None:
    users = {row[1] for row in lines("etc/sysusers.d/uswitch.conf") if row[0] == "u"}
    groups = {row[1] for row in lines("etc/sysusers.d/uswitch.conf") if row[0] in "gu"}
    members = {row[2] for row in lines("etc/sysusers.d/uswitch.conf") if row[0] == "m"}
    daemon = unit(TOP / "etc/systemd/uswitchd.service")
    assert daemon["User"][0] in users and daemon["Group"][0] in groups
    directories = {row[1]: row[2:5] for row in lines("etc/tmpfiles.d/uswitch.conf")}
    assert directories["/run/uswitch/vhost"] == ["2775", "uswitch", "kvm"]
    # To use QEMU's sockets, and to give its own away.
    assert {"kvm", "uswitch-control"} <= members
    for owner, group in ((row[1], row[2]) for row in directories.values()):
        assert owner in {*users, "root"} and group in {*groups, "root"}
    assert f"/run/{daemon['RuntimeDirectory'][0]}" in directories
    assert f"/var/lib/{daemon['StateDirectory'][0]}" in directories
    agent = unit(TOP / "etc/systemd/neutron-uswitch-agent.service")
    assert agent["SupplementaryGroups"] == ["uswitch-control"]


def test_the_agents_unit_leaves_neutrons_directories_to_their_owner() -> None:
    """systemd would give them to its own user and mode at each start; here they are written."""
    agent = unit(TOP / "etc/systemd/neutron-uswitch-agent.service")
    for key in ("StateDirectory", "LogsDirectory", "RuntimeDirectory", "CacheDirectory"):
        assert key not in agent
    assert agent["ReadWritePaths"] == ["-/var/lib/neutron -/var/log/neutron"]


@pytest.mark.parametrize(
    "name", ["uswitchd.service", "neutron-uswitch-agent.service", "user/uswitchd.service"]
)
def test_units_are_started_again_however_often_they_fail(name: str) -> None:
    text = (TOP / "etc/systemd" / name).read_text(encoding="utf-8")
    head, _, service = text.partition("[Service]")
    assert "\nStartLimitIntervalSec=0\n" in head  # in another section it is ignored
    assert "\nRestart=always\nRestartSec=2\n" in service


def test_defaults_of_the_options_are_the_units_directories() -> None:
    sample = (TOP / "etc/uswitchd.conf.sample").read_text(encoding="utf-8")
    assert "#run_dir = /run/uswitch\n" in sample and "#state_dir = /var/lib/uswitch\n" in sample


def test_the_dataplane_outlives_a_restart() -> None:
    """What it takes: see the comments in the unit."""
    daemon = unit(TOP / "etc/systemd/uswitchd.service")
    assert daemon["KillMode"] == ["process"]
    assert daemon["RuntimeDirectoryPreserve"] == ["yes"]
    assert "FileDescriptorStoreMax" not in daemon  # notify.py sends no FDSTORE=1
    assert "RestrictSUIDSGID" not in daemon  # it makes a setgid directory where there is none


def test_a_users_unit_asks_for_nothing_that_only_root_may_do() -> None:
    """What takes another user, capabilities or mounts, the user's manager cannot do, and fails."""
    own, hosts = unit(USER_UNIT), unit(TOP / "etc/systemd/uswitchd.service")
    assert own["ExecStart"] == [f"{PREFIX}/bin/uswitchd --user"]
    assert own["WantedBy"] == ["default.target"]
    roots = {"User", "Group", "CapabilityBoundingSet", "AmbientCapabilities", "DevicePolicy",
             "DeviceAllow", "OOMScoreAdjust", "IPAddressDeny", "RuntimeDirectory", "StateDirectory",
             "PrivateTmp"}  # fmt: skip
    assert not roots & set(own) and not [key for key in own if key.startswith("Protect")]
    for key in ("KillMode", "Restart", "RestartPreventExitStatus", "SystemCallFilter",
                "RestrictAddressFamilies", "NoNewPrivileges", "OOMPolicy"):  # fmt: skip
        assert own[key] == hosts[key], key


# ---- the tools' own opinion ----

@pytest.fixture
def tool() -> Tool:
    def run(name: str, *arguments: str | pathlib.Path) -> subprocess.CompletedProcess[str]:
        program = shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin")
        if program is None:
            pytest.skip(f"{name} is not installed (bindep.txt)")
        return subprocess.run([program, *arguments], capture_output=True, text=True, check=False,
                              env={"LC_ALL": "C", "SYSTEMD_LOG_LEVEL": "notice"}, timeout=60)

    return run


@pytest.mark.parametrize("path", UNITS, ids=named)
def test_systemd_can_read_each_unit(path: pathlib.Path, tool: Tool) -> None:
    """Complaints about other units, and about programs that are not on this host, do not count."""
    manager = ["--user"] if path == USER_UNIT else []
    said = tool("systemd-analyze", *manager, "verify", path).stderr.splitlines()
    ours = [line for line in said if path.name in line and "is not executable" not in line]
    assert not ours


def test_systemd_would_have_complained(tool: Tool, tmp_path: pathlib.Path) -> None:
    text = (TOP / "etc/systemd/uswitchd.service").read_text(encoding="utf-8")
    wrong = tmp_path / "uswitchd.service"
    wrong.write_text(text.replace("KillMode=process", "KillMode=proces"), encoding="utf-8")
    assert "uswitchd.service" in tool("systemd-analyze", "verify", wrong).stderr


def test_users_are_made(tool: Tool, tmp_path: pathlib.Path) -> None:
    (tmp_path / "etc").mkdir()
    made = tool("systemd-sysusers", f"--root={tmp_path}", TOP / "etc/sysusers.d/uswitch.conf")
    assert made.returncode == 0, made.stderr
    passwd = (tmp_path / "etc/passwd").read_text()
    assert re.search(r"(?m)^uswitch:.*:/var/lib/uswitch:/\S*nologin$", passwd)
    group = (tmp_path / "etc/group").read_text()
    for name in ("kvm", "uswitch-control"):
        assert re.search(rf"(?m)^{name}:x:\d+:uswitch$", group)


def test_directories_are_made(tool: Tool, tmp_path: pathlib.Path) -> None:
    """As root with their owners, else as far as one may."""
    me = pathlib.Path(tmp_path).stat()
    (tmp_path / "etc").mkdir()
    ids = f"{me.st_uid}:{me.st_gid}"
    (tmp_path / "etc/passwd").write_text(f"root:x:0:0::/:/bin/sh\nuswitch:x:{ids}::/:\n")
    (tmp_path / "etc/group").write_text(f"root:x:0:\nuswitch:x:{me.st_gid}:\nkvm:x:{me.st_gid}:\n")
    tool("systemd-tmpfiles", "--create", f"--root={tmp_path}", TOP / "etc/tmpfiles.d/uswitch.conf")
    modes = {name: oct((tmp_path / name).stat().st_mode & 0o7777)
             for name in ("run/uswitch", "run/uswitch/vhost", "var/lib/uswitch")}
    assert modes == {"run/uswitch": "0o755", "run/uswitch/vhost": "0o2775",
                     "var/lib/uswitch": "0o700"}


def test_apparmor_can_read_the_profiles(tool: Tool) -> None:
    parsed = tool("apparmor_parser", "-Q", "-K", "-T", TOP / "etc/apparmor.d/uswitch")
    assert parsed.returncode == 0, parsed.stderr

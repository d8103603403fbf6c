# SPDX-License-Identifier: Apache-2.0
"""Options: defaults, limits, and errors that name file, option and reason."""

from __future__ import annotations

import pathlib

import pytest

from vif_uswitch import conf
from vif_uswitch.exceptions import InvalidInput


def load(tmp_path: pathlib.Path, text: str, *argv: str):  # type: ignore[no-untyped-def]
    path = tmp_path / "u.conf"
    path.write_text(text, encoding="utf-8")
    return conf.load(["--config-file", str(path), *argv], "1.2.3")


def test_defaults_and_what_depends_on_run_dir(tmp_path: pathlib.Path) -> None:
    options = load(tmp_path, "[DEFAULT]\nrun_dir = /tmp/x\n")
    assert options.vhost_socket_dir == "/tmp/x/vhost"
    assert options.control_socket == "/tmp/x/control.sock"
    assert options.state_dir == "/var/lib/uswitch"
    assert (options.dataplane.workers, options.dataplane.poll_us, options.dataplane.cpus) == (
        1, 50, [],
    )  # fmt: skip
    assert options.port_defaults.mtu == 1500
    assert not options.stop_dataplane_on_exit and not options.allow_root


def test_values_and_command_line(tmp_path: pathlib.Path) -> None:
    text = (
        "[DEFAULT]\nstop_dataplane_on_exit = true\nlog_json = true\n"
        "[dataplane]\nworkers = 2\ncpus = 3,1\nfdb_age = 60\n[port_defaults]\nflood_rate = 0\n"
    )
    options = load(tmp_path, text, "--allow-root", "--debug")
    assert options.stop_dataplane_on_exit and options.log_json
    assert options.allow_root and options.debug
    assert options.dataplane.cpus == [3, 1] and options.dataplane.fdb_age == 60
    assert options.port_defaults.flood_rate == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[DEFAULT]\nrundir = /x\n", r"option rundir in \[DEFAULT\]: is unknown.*mean run_dir\?"),
        ("[DEFAULT]\nworkers = 1\n", "option workers in .*is unknown"),
        ("[dataplan]\nworkers = 1\n", r"section \[dataplan\].*mean dataplane\?"),
        ("[dataplane]\nxyzzy = 1\n", "xyzzy.*Known here: binary, workers"),
        ("[dataplane]\nworkers = 0\n", "workers.*greater than or equal to 1.*u.conf"),
        ("[dataplane]\nworkers = many\n", "workers.*no integer: 'many'.*u.conf"),
        ("[dataplane]\nfdb_buckets = 1000\n", "fdb_buckets.*1000: is no power of two. Use 1024"),
        ("[dataplane]\nfdb_buckets = 8\n", "fdb_buckets"),
        ("[dataplane]\ncpus = 1,2\n", "2 CPUs for 1 workers"),
        ("[dataplane]\ncpus = -1\n", "cpus"),
        ("[port_defaults]\nmtu = 65522\n", "mtu.*65521"),
        ("[port_defaults]\nmtu = 67\n", "mtu.*68"),
        ("[DEFAULT]\nrun_dir = run\n", "run_dir run: is no absolute path"),
        ("[DEFAULT]\nvhost_socket_mode = 999\n", "vhost_socket_mode"),
        ("run_dir = /x\n", "Section must be started"),
        ("nonsense\n", "parse"),
    ],
)
def test_mistakes_are_named(tmp_path: pathlib.Path, text: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        load(tmp_path, text)


def test_files_that_cannot_be_read(tmp_path: pathlib.Path) -> None:
    with pytest.raises(InvalidInput, match=r"/nonexistent.*cannot be read"):
        conf.load(["--config-file", "/nonexistent"], "1")
    with pytest.raises(InvalidInput, match="directory"):
        conf.load(["--config-file", str(tmp_path)], "1")
    (tmp_path / "b").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidInput, match="utf-8"):
        conf.load(["--config-file", str(tmp_path / "b")], "1")


def test_files_of_a_directory_are_checked_too(tmp_path: pathlib.Path) -> None:
    (tmp_path / "u.conf").write_text("[DEFAULT]\n")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "x.conf").write_text("[DEFAULT]\nrundir = /x\n")
    with pytest.raises(InvalidInput, match=r"x\.conf"):
        conf.load(["--config-file", str(tmp_path / "u.conf"), "--config-dir",
                   str(tmp_path / "d")], "1")  # fmt: skip


def test_a_wrong_flag_in_the_file(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """oslo.config ends the process itself for options that the command line has too."""
    with pytest.raises(SystemExit):
        load(tmp_path, "[DEFAULT]\nallow_root = perhaps\n")
    assert "allow_root" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [["--no-such"], ["extra"], ["--config-file"]])
def test_a_wrong_command_line_is_a_usage_error(argv: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        conf.load(argv, "1")
    assert caught.value.code == 2


def test_every_option_has_a_help_text_and_is_listed() -> None:
    listed = dict(conf.list_opts())
    assert set(listed) == {"DEFAULT", "dataplane", "port_defaults", "uplink", "uplink:<name>"}
    for opts in listed.values():
        for opt in opts:
            assert opt.help and opt.help.endswith("."), opt.name


def test_import_registers_nothing() -> None:
    from oslo_config import cfg

    assert "run_dir" not in cfg.CONF


# ---- the switch of a user's own ----

@pytest.fixture
def home(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    for name in ("XDG_STATE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "run").mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    return tmp_path


def test_defaults_of_a_user(home: pathlib.Path) -> None:
    options = conf.load(["--user"], "1")
    assert options.run_dir == f"{home}/run/uswitch"
    assert options.control_socket == f"{home}/run/uswitch/control.sock"
    assert options.vhost_socket_dir == f"{home}/run/uswitch/vhost"
    assert options.state_dir == f"{home}/.local/state/uswitch"
    assert options.vhost_socket_mode == "0600"
    assert conf.load([], "1").run_dir == "/run/uswitch"


def test_a_user_has_a_configuration_of_the_same_name(home: pathlib.Path) -> None:
    directory = home / ".config/uswitch"
    (directory / "uswitchd.conf.d").mkdir(parents=True)
    (directory / "uswitchd.conf").write_text("[dataplane]\nworkers = 2\n")
    (directory / "uswitchd.conf.d/x.conf").write_text("[port_defaults]\nmtu = 9000\n")
    options = conf.load(["--user"], "1")
    assert (options.dataplane.workers, options.port_defaults.mtu) == (2, 9000)
    (directory / "uswitchd.conf").write_text("[dataplane]\nworker = 2\n")
    with pytest.raises(InvalidInput, match=rf"option worker in .*{directory}/uswitchd\.conf"):
        conf.load(["--user"], "1")
    (home / "mine").write_text("[DEFAULT]\nstate_dir = /s\n")
    assert conf.load(["--user", "--config-file", str(home / "mine")], "1").state_dir == "/s"


def test_a_missing_directory_matters_where_it_is_used(
    home: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(home / "nothing"))
    with pytest.raises(InvalidInput, match=r"XDG_RUNTIME_DIR .*cannot be used: No such file"):
        conf.load(["--user"], "1")
    options = load(home, "[DEFAULT]\nrun_dir = /tmp/mine\n", "--user")
    assert options.control_socket == "/tmp/mine/control.sock"


@pytest.mark.parametrize("name", ["control_group", "vhost_socket_group"])
def test_a_group_could_not_come_in(home: pathlib.Path, name: str) -> None:
    with pytest.raises(InvalidInput, match=f"option {name} kvm: is for the host's switch"):
        load(home, f"[DEFAULT]\n{name} = kvm\n", "--user")


def test_a_long_directory_is_refused_before_anything_is_opened(
    home: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = home / ("x" * 100)
    long.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(long))
    with pytest.raises(InvalidInput, match=r"control_socket.*the kernel allows 107.*shorter run_"):
        conf.load(["--user"], "1")


@pytest.mark.parametrize("argv", [["--use"], ["--user", "--nouser"]])
def test_user_is_said_in_full_and_on_the_command_line(
    home: pathlib.Path, argv: list[str]
) -> None:
    """It says which files are read, so it is known before they are."""
    with pytest.raises((InvalidInput, SystemExit)):
        conf.load(argv, "1")
    with pytest.raises(InvalidInput, match=r"command line alone"):
        load(home, "[DEFAULT]\nuser = true\n")

# SPDX-License-Identifier: Apache-2.0
"""/etc/uswitch/libvirt.conf: all of it may be missing, none of it may be wrong."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vif_uswitch.exceptions import InvalidInput
from vif_uswitch.hooks.settings import PATH_VARIABLE, HostSettings, load, parse

SAMPLE = Path(__file__).resolve().parents[3] / "etc/libvirt/libvirt.conf.sample"


def test_without_a_file_everything_is_a_default(tmp_path: Path) -> None:
    assert load(str(tmp_path / "none.conf")) == HostSettings("", "", "", 5.0)


def test_a_file_without_the_section_too(tmp_path: Path) -> None:
    (tmp_path / "empty.conf").write_text("# nothing\n")
    assert load(str(tmp_path / "empty.conf")) == HostSettings()


def test_all_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "libvirt.conf"
    path.write_text("[libvirt]\ncontrol_socket = /run/a.sock\nvhost_socket_dir = /srv/%vhost\n"
                    "default_segment = lab\ndeadline_s = 2.5\n")
    monkeypatch.setenv(PATH_VARIABLE, str(path))
    assert load() == HostSettings("/run/a.sock", "/srv/%vhost", "lab", 2.5)


@pytest.mark.parametrize(("text", "complaint"), [
    ("[libvirt", r"section \[libvirt: is unknown, in line 1 of /etc/uswitch/libvirt.conf"),
    ("\n# x\ndefault_segment = lab", r"stands before \[libvirt\], in line 3"),
    ("[libvirt]\ndefault_segment: lab\n", "line default_segment: lab: is no option"),
    ("[libvirt]\n= lab\n", "is no option, in line 2"),
    ("[libvirt]\ndefault_segment = a\n  b\n", "line b: is no option, in line 3"),
    ("[libvirt]\ndeadline_s = 1\ndeadline_s = 1\n", "deadline_s: is there twice, in line 3"),
    ("[libvirtd]\n", r"section \[libvirtd\]: is unknown"),
    ("[libvirt]\ndefault_segmnt = lab\n", "option default_segmnt: is unknown"),
    ("[DEFAULT]\ndefault_segment = lab\n", r"section \[DEFAULT\]: is unknown"),
    ("[libvirt]\nvhost_socket_dir = vhost\n", "vhost_socket_dir vhost: is no absolute path"),
    ("[libvirt]\ncontrol_socket = /run/\x1b.sock\n", "is no absolute path"),
    ("[libvirt]\ndeadline_s = soon\n", "deadline_s soon: is no number of seconds"),
    ("[libvirt]\ndeadline_s = nan\n", "is no number of seconds"),
    ("[libvirt]\ndeadline_s = 0\n", "is no number of seconds"),
    ("[libvirt]\ndeadline_s = 1e9\n", "is no number of seconds"),
])
def test_what_is_wrong_is_named(text: str, complaint: str) -> None:
    with pytest.raises(InvalidInput, match=complaint):
        parse(text, "/etc/uswitch/libvirt.conf")


def test_how_it_may_be_written() -> None:
    text = ("; one\n  # two\n[libvirt]\r\ncontrol_socket=/a=b\n\n"
            "default_segment =  a # b \n[libvirt]\n")
    assert parse(text, "x") == HostSettings("/a=b", "", "a # b", 5.0)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"#" * 70_000])
def test_what_is_no_such_file_at_all(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.conf").write_bytes(content)
    with pytest.raises(InvalidInput, match=r"cannot be read|longer than"):
        load(str(tmp_path / "x.conf"))


def test_the_sample_names_every_option_with_its_default() -> None:
    text = SAMPLE.read_text()
    assert parse(text, "sample") == HostSettings()
    uncommented = re.sub(r"(?m)^#(\w+ =)", r"\1", text)
    assert parse(uncommented, "sample") == HostSettings()
    assert set(re.findall(r"(?m)^#(\w+) =", text)) == set(HostSettings._fields)

# SPDX-License-Identifier: Apache-2.0
"""tests/e2e/cloud/activation.py: our own socket units are what it understands."""

from __future__ import annotations

import shlex
import stat
from pathlib import Path

import pytest

from tests.e2e.cloud import activation

UNITS = sorted((Path(__file__).resolve().parents[3] / "etc/systemd").glob("*.socket"))


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_every_socket_unit_has_what_is_read(path: Path) -> None:
    options = activation.unit(path)["Socket"]
    assert options["ListenSequentialPacket"].startswith("/run/")
    service = activation.unit(path.with_name(path.stem + "@.service"))["Service"]
    assert shlex.split(service["ExecStart"])[0].endswith(path.stem)


def test_the_socket_has_the_mode_of_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "x.socket"
    me = tmp_path.owner(), tmp_path.group()
    unit.write_text(f"[Socket]\nListenSequentialPacket={tmp_path}/s\nSocketUser={me[0]}\n"
                    f"SocketGroup={me[1]}\nSocketMode=0640\n")  # fmt: skip
    with activation.listen(activation.unit(unit)["Socket"]):
        assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o640

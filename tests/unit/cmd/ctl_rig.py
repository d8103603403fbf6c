# SPDX-License-Identifier: Apache-2.0
"""``uswitchctl`` in this process, for tests of its commands."""

from __future__ import annotations

import pytest

from vif_uswitch.cmd import uswitchctl


class Ctl:
    """Runs one command and remembers what it wrote."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.out = self.err = ""

    def __call__(self, line: str) -> int:
        self._capsys.readouterr()
        try:
            status = uswitchctl.main(line.split())
        except SystemExit as exit_:
            status = int(exit_.code or 0)
        self.out, self.err = self._capsys.readouterr()
        assert "Traceback" not in self.out + self.err
        return status

# SPDX-License-Identifier: Apache-2.0
"""Blocks of the documentation that want an adapter of one's own, typed in the nested host.

On a page an adapter has the address of some machine; here it is that of the spare one.
"""

from __future__ import annotations

import base64
import re
import subprocess
import sys
from pathlib import Path

import pytest

from testbed.vfio_guest import Nested
from tests.functional import doc_blocks, doc_typist
from tests.functional.doc_bed import Bed, only_root

from .conftest import Lab, Switch

ADDRESS = re.compile(r"0000:0[0-9a-f]:00\.0")
SECONDS = 240.0  # an emulated processor starts an interpreter for each command
SHELL = """
PATH={bin}:$PATH
export USWITCH_SOCKET=$(ls -d /run/switch-*/control.sock)
"""


class AdapterBed(Bed):
    """``root`` in the nested host, with the switch that all tests share."""

    def __init__(self, host: Nested, address: str) -> None:
        super().__init__()
        self._host, self._address = host, address

    def run(self, who: str, script: str) -> subprocess.CompletedProcess[str]:
        only_root(who)
        setting = SHELL.format(bin=Path(sys.executable).parent)
        typed = base64.b64encode((setting + ADDRESS.sub(self._address, script)).encode()).decode()
        done = self._host.run(f'sh -ec "$(echo {typed} | base64 -d)" 2>&1', SECONDS)  # one line
        return subprocess.CompletedProcess(script, done.rc, done.output)


@pytest.mark.parametrize(("page", "story"), doc_blocks.stories(["adapter"]))
def test_page(lab: Lab, host: Nested, switch: Switch, page: str, story: int, tmp_path: Path
              ) -> None:  # fmt: skip
    address = lab.cards["spare"].address
    bed, said = AdapterBed(host, address), ""
    try:
        for step in doc_blocks.read(page).stories[story].steps:
            said = doc_typist.do(bed, step, said, tmp_path)
    finally:
        for name in (row["port"]["name"] for row in switch.api("uplink.list")["uplinks"]):
            switch.api("uplink.delete", name=name)
        host.give_back(address)
    assert host.driver(address) == "igb"

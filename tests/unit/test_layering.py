# SPDX-License-Identifier: Apache-2.0
"""The dependency direction of CONTRIBUTING.rst holds; and the checker sees what breaks it."""

from __future__ import annotations

import pathlib

import pytest

from tests.unit import layering

TOP = pathlib.Path(__file__).resolve().parents[2]


def python_sources() -> dict[str, str]:
    return layering.read_tree(TOP, ["*.py"], TOP / "vif_uswitch")


def c_sources() -> dict[str, str]:
    return layering.read_tree(TOP / "dataplane", ["*.c", "*.h"], TOP / "dataplane")


def violations(sources: dict[str, str]) -> list[str]:
    return layering.python_violations(layering.python_graph(sources), layering.lazy_graph(sources))


def test_python_rooms() -> None:
    assert not violations(python_sources())


def test_c_rooms() -> None:
    found = layering.c_violations(layering.c_graph(c_sources()))
    assert not found


def test_c_tests_know_no_python() -> None:
    sources = layering.read_tree(TOP / "tests", ["*.c", "*.h"], TOP / "tests/dataplane")
    assert not [path for path, text in sources.items() if "Python.h" in text]


def test_nothing_was_overlooked() -> None:
    """The checker really reads both trees and follows what it reads."""
    python = layering.python_graph(python_sources())
    assert {"vif_uswitch.client", "vif_uswitch.daemon.main", "vif_uswitch.conf"} <= set(python)
    assert "vif_uswitch.api.wire" in python["vif_uswitch.client"]
    c = layering.c_graph(c_sources())
    assert {"uswitch.c", "switch.c", "include/uswitch.h"} <= set(c)
    assert any(name.startswith("vhost/") for name in c["uswitch.c"])
    assert "switch.h" in c["switch.c"] and "base/rcu.h" in c["uswitch.c"]


GOOD_PYTHON = {
    "vif_uswitch/__init__.py": "",
    "vif_uswitch/exceptions.py": "import json\n",
    "vif_uswitch/conf.py": "from oslo_config import cfg\n",
    "vif_uswitch/client.py": "import socket\nfrom vif_uswitch.api import wire\n",
    "vif_uswitch/access.py": "import os\n",
    "vif_uswitch/patience.py": "import pwd\nfrom vif_uswitch.client import Client\n",
    "vif_uswitch/plugin.py": "import os_vif\nfrom vif_uswitch import patience, plugin_opts\n",
    "vif_uswitch/plugin_opts.py": "from oslo_config import cfg\n",
    "vif_uswitch/api/__init__.py": "",
    "vif_uswitch/api/wire.py": "import json\nfrom vif_uswitch import exceptions\n",
    "vif_uswitch/api/types.py": "import msgspec\n",
    "vif_uswitch/cmd/__init__.py": "",
    "vif_uswitch/cmd/uswitchctl.py": "from vif_uswitch import client\n",
    "vif_uswitch/cmd/domain.py": "def run():\n    from vif_uswitch.domain import attach\n",
    "vif_uswitch/domain/__init__.py": "",
    "vif_uswitch/domain/attach.py": "import libvirt\nfrom vif_uswitch.hooks import domain_xml\n",
    "vif_uswitch/domain/reach.py": "from vif_uswitch.access import may\n",
    "vif_uswitch/hooks/__init__.py": "",
    "vif_uswitch/hooks/domain_xml.py": "from vif_uswitch import client, exceptions\n",
    "vif_uswitch/daemon/__init__.py": "",
    "vif_uswitch/daemon/main.py": "def main():\n    from vif_uswitch.dataplane import fake\n",
    "vif_uswitch/daemon/ports.py": "from ..dataplane.base import Dataplane\nfrom . import state\n",
    "vif_uswitch/daemon/state.py": "from vif_uswitch.api.types import PortSpec\n",
    "vif_uswitch/ml2/__init__.py": "",
    "vif_uswitch/ml2/interface.py": "import neutron\nfrom vif_uswitch import client, patience\n",
    "vif_uswitch/uplink/__init__.py": "",
    "vif_uswitch/uplink/main.py": "import pyudev\nfrom vif_uswitch import exceptions\n",
    "vif_uswitch/dataplane/__init__.py": "",
    "vif_uswitch/dataplane/base.py": "from vif_uswitch.exceptions import UswitchError\n",
    "vif_uswitch/dataplane/fake.py": "from vif_uswitch.dataplane import base\n",
    "vif_uswitch/dataplane/native.py": "from vif_uswitch.dataplane._native import ffi, lib\n",
}

BAD_PYTHON = [
    ("client.py", "from vif_uswitch.daemon import ports", "client may import only"),
    ("client.py", "from vif_uswitch.api import types", "client may import only"),
    ("client.py", "import msgspec", "standard library"),
    ("client.py", "from . import conf", "client may import only"),
    ("cmd/uswitchctl.py", "import vif_uswitch.dataplane.native", "cmd may import only"),
    ("cmd/uswitchctl.py", "from vif_uswitch.api.types import PortSpec", "reaches msgspec"),
    ("api/__init__.py", "from vif_uswitch.api.types import PortSpec", "reaches msgspec"),
    ("exceptions.py", "import oslo_config", "standard library"),
    ("access.py", "from vif_uswitch.cmd import output", "access may import only"),
    ("access.py", "import msgspec", "standard library"),
    ("hooks/domain_xml.py", "from vif_uswitch import access", "hooks may import only"),
    ("__init__.py", "from vif_uswitch.client import Client", "imports nothing"),
    ("plugin.py", "import vif_uswitch.daemon.state", "plugin may import only"),
    ("plugin.py", "import os_vif.internal.ip", "not a public module"),
    ("plugin.py", "from vif_plug_ovs import linux_net", "nobody may"),
    ("plugin.py", "from vif_uswitch.ml2 import conf", "plugin may import only"),
    ("patience.py", "from vif_uswitch import plugin_opts", "patience may import only"),
    ("patience.py", "from vif_uswitch.ml2 import conf", "patience may import only"),
    ("patience.py", "from oslo_config import cfg", "standard library"),
    ("cmd/uswitchctl.py", "from vif_uswitch import patience", "cmd may import only"),
    ("ml2/interface.py", "from vif_uswitch import plugin_opts", "ml2 may import only"),
    ("conf.py", "from vif_uswitch.daemon import main", "conf may import only"),
    ("api/types.py", "import socket", "no I/O"),
    ("api/types.py", "from vif_uswitch.client import Client", "api may import only"),
    ("daemon/ports.py", "import os_vif", "only plugin may"),
    ("daemon/ports.py", "def f():\n    from neutron.agent import x", "only ml2 may"),
    ("daemon/ports.py", "import libvirt", "only domain may"),
    ("hooks/domain_xml.py", "import libvirt", "only domain may"),
    ("hooks/domain_xml.py", "def f():\n    from vif_uswitch.domain import attach",
     "hooks may import only"),
    ("hooks/domain_xml.py", "from vif_uswitch.api import types", "reaches msgspec"),
    ("domain/attach.py", "from vif_uswitch.cmd import output", "domain may import only"),
    ("cmd/domain.py", "from vif_uswitch.domain import attach", "cmd may import only"),
    ("cmd/domain.py", "from vif_uswitch.domain import attach", "reaches libvirt"),
    ("cmd/domain.py", "if True:\n    import vif_uswitch.domain.attach", "cmd may import only"),
    ("cmd/domain.py", "def f():\n    from vif_uswitch.hooks import domain_xml",
     "cmd may import only"),
    ("cmd/domain.py", "def f():\n    import libvirt", "only domain may"),
    ("daemon/ports.py", "import nova.network", "nobody may"),
    ("daemon/ports.py", "from vif_uswitch.dataplane import fake", "daemon may import only"),
    ("daemon/ports.py", "from ..dataplane import native", "daemon may import only"),
    ("daemon/ports.py", "from vif_uswitch.client import Client", "daemon may import only"),
    ("daemon/main.py", "from vif_uswitch.dataplane import _native", "only dataplane/native.py"),
    ("dataplane/fake.py", "from ._native import lib", "only dataplane/native.py"),
    ("dataplane/base.py", "from vif_uswitch.daemon import ports", "dataplane may import only"),
    ("daemon/ports.py", "from vif_uswitch import _dataplane_build", "for the build only"),
    ("uplink/main.py", "from vif_uswitch.daemon import ports", "uplink may import only"),
    ("uplink/main.py", "from vif_uswitch.dataplane import base", "uplink may import only"),
    ("uplink/main.py", "from vif_uswitch.client import Client", "uplink may import only"),
    ("novel.py", "from vif_uswitch import exceptions", "in no room"),
]


def test_python_checker_accepts_a_good_tree() -> None:
    assert violations(GOOD_PYTHON) == []


@pytest.mark.parametrize(("path", "line", "complaint"), BAD_PYTHON)
def test_python_checker_sees(path: str, line: str, complaint: str) -> None:
    tree = dict(GOOD_PYTHON)
    tree[f"vif_uswitch/{path}"] = f"{tree.get(f'vif_uswitch/{path}', '')}{line}\n"
    found = violations(tree)
    assert any(complaint in text for text in found), found


GOOD_C = {
    "include/uswitch.h": "#include <stdint.h>\n",
    "base/le.h": "#include <stdint.h>\n",
    "base/log.c": '#include "base/log.h"\n#include "include/uswitch.h"\n',
    "base/log.h": '#include "le.h"\n',
    "port.h": '#include "base/le.h"\n',
    "switch.h": '#include "port.h"\n',
    "switch.c": '#include "switch.h"\n#include "uswitch.h"\n',
    "vhost/virtq.h": '#include "../port.h"\n',
    "vhost/virtq.c": '#include "virtq.h"\n#include "base/le.h"\n',
    "tap/tap_port.h": '#include "port.h"\n',
    "nic/igb.h": '#include "port.h"\n',
    "link.c": '#include "include/uswitch.h"\n',
    "main.c": '#include "include/uswitch.h"\n',
    "uswitch.c": '#include "vhost/virtq.h"\n#include "tap/tap_port.h"\n#include "nic/igb.h"\n',
}

BAD_C = [
    ("switch.c", '#include "vhost/virtq.h"', "only uswitch.c and uswitch_lend.c know the drivers"),
    ("switch.h", '#  include "tap/tap_port.h"',
     "only uswitch.c and uswitch_lend.c know the drivers"),
    ("link.c", '#include "nic/igb.h"', "only uswitch.c and uswitch_lend.c know the drivers"),
    ("main.c", '#include "vhost/virtq.h"', "only uswitch.c and uswitch_lend.c know the drivers"),
    ("vhost/virtq.c", '#include "../tap/tap_port.h"', "drivers do not know each other"),
    ("nic/igb.h", '#include "vhost/virtq.h"', "drivers do not know each other"),
    ("base/log.c", '#include "port.h"', "base includes only base"),
    ("base/le.h", '#include "../switch.h"', "base includes only base"),
    ("include/uswitch.h", '#include "../port.h"', "the ABI includes nothing of ours"),
    ("switch.c", "#include <Python.h>", "knows no Python"),
    ("uswitch.c", "#include <python3.11/Python.h>", "knows no Python"),
    ("switch.c", '#include "lost.h"', "no such file"),
]


def test_c_checker_accepts_a_good_tree() -> None:
    assert layering.c_violations(layering.c_graph(GOOD_C)) == []


@pytest.mark.parametrize(("path", "line", "complaint"), BAD_C)
def test_c_checker_sees(path: str, line: str, complaint: str) -> None:
    tree = {**GOOD_C, path: f"{GOOD_C[path]}{line}\n"}
    found = layering.c_violations(layering.c_graph(tree))
    assert any(complaint in text for text in found), found

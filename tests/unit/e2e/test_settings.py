# SPDX-License-Identifier: Apache-2.0
"""tests/e2e/cloud/settings.py: files that oslo.config reads."""

from __future__ import annotations

from pathlib import Path

from oslo_config import cfg

from tests.e2e.cloud import settings


def test_what_is_written_is_read_as_it_was_meant(tmp_path: Path) -> None:
    path = settings.write(tmp_path / "a" / "x.conf", {
        "DEFAULT": {"transport_url": settings.RABBIT, "debug": True},
        "neutron": {"password": "100%", "physnet:x": 1},
    })  # fmt: skip
    conf = cfg.ConfigOpts()
    conf.register_opts([cfg.StrOpt("transport_url"), cfg.BoolOpt("debug")])
    conf.register_opts([cfg.StrOpt("password")], "neutron")
    conf(["--config-file", str(path)])
    assert (conf.transport_url, conf.debug) == (settings.RABBIT, True)
    assert conf.neutron.password == "100%"
    assert "physnet:x = 1" in path.read_text()

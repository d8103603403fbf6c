# SPDX-License-Identifier: Apache-2.0
"""What is concluded about neutron-server, and what is said where there is none."""

from __future__ import annotations

from importlib import util
from pathlib import Path

import pytest

from testbed import TestbedError
from tests.bench import neutron, summary
from tests.bench.figure import Limit, Setting
from tests.bench.figures import BY_NAME, EXPERIMENTS, ONCE
from tests.bench.neutron import HEARTBEAT, Cost
from tests.bench.rounds import Measured


def test_where_neutron_is_not_it_says_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    with pytest.raises(TestbedError, match="make openstack"):
        list(neutron.listing(Setting(tmp_path, (0, 1), 0.7, False, tmp_path)))


def test_it_runs_if_named_and_once() -> None:
    names = [name for name in EXPERIMENTS if name.startswith("neutron")]
    assert names and all(name.startswith(BY_NAME) and name.startswith(ONCE) for name in names)


def test_a_list_is_judged_by_the_median_beside_a_heartbeat() -> None:
    beats = [Cost(cpu, 9.0) for cpu in (8.0, 6.0, 7.0)]
    lists = [Cost(cpu, 99.0) for cpu in (150.0, 70.0, 90.0)]
    figures = [*neutron._processor(HEARTBEAT, beats),
               *neutron._processor("list", lists, Limit(12, HEARTBEAT))]  # fmt: skip
    rows = summary.figure_rows([Measured(1, figure) for figure in figures])
    values = {(row.name.rpartition(" ")[2], row.subject): row.value.median for row in rows}
    assert values["median", HEARTBEAT] == 7 and values["median", "list"] == 90
    assert (values["least", "list"], values["most", "list"]) == (70, 150)
    assert [row.verdict for row in rows if row.verdict] == ["short"], "90 / 7 is more than 12"

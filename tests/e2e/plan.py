# SPDX-License-Identifier: Apache-2.0
"""The plan: all stages in order, and what each one needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.e2e.stages.boot import boot
from tests.e2e.stages.deletion import deletion
from tests.e2e.stages.failures import failures
from tests.e2e.stages.migration import migration
from tests.e2e.stages.ports import attach, power
from tests.e2e.stages.restarts import restarts
from tests.e2e.stages.spoof import pairs, spoof
from tests.e2e.stages.traffic import network, router
from tests.e2e.tenant import Tenant
from tests.e2e.witness import record

Function = Callable[[Tenant], None]


@dataclass(frozen=True, slots=True)
class Stage:
    """What runs, and which earlier stages have to have run."""

    run: Function
    needs: tuple[str, ...] = ("boot",)


STAGES = {
    "boot": Stage(boot, ()),
    "network": Stage(network),
    "router": Stage(router),
    "spoof": Stage(spoof),
    "pairs": Stage(pairs),
    "attach": Stage(attach),
    "failures": Stage(failures),
    "power": Stage(power, ("boot", "router")),
    "restarts": Stage(restarts, ("boot", "router")),
    "migration": Stage(migration, ("boot", "router")),
    "deletion": Stage(deletion),
}


def chosen(names: Sequence[str]) -> list[tuple[str, Function]]:
    """Those that were asked for and what they need, in order; all if none was named."""
    unknown = [name for name in names if name not in STAGES]
    if unknown:
        raise ValueError(f"no stage {', '.join(unknown)}; there are: {', '.join(STAGES)}")
    wanted = set(names or STAGES)
    for name in tuple(wanted):
        wanted.update(STAGES[name].needs)
    return [(name, stage.run) for name, stage in STAGES.items() if name in wanted]


def go(tenant: Tenant, names: Sequence[str]) -> None:
    """Run them; one that cannot go on leaves the others to run."""
    logs = tenant.cloud.place.logs
    tenant.report.witness = lambda number: record(tenant, logs / f"failed-{number}.json")
    for name, stage in chosen(names):
        tenant.report.stage = name
        with tenant.report.whole_stage():
            stage(tenant)

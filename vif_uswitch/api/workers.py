# SPDX-License-Identifier: Apache-2.0
"""Parameters and results of the API's methods about the dataplane's threads."""

from __future__ import annotations

from vif_uswitch.api.base import Params, Result
from vif_uswitch.api.values import WorkerIndex


class WorkerRef(Params, frozen=True):
    index: WorkerIndex


class Worker(Result, frozen=True):
    index: int
    tid: int
    cpu: int  # -1: not pinned
    queues: int
    passes: int
    busy_passes: int
    cycles: int
    busy_cycles: int
    frames: int
    sleeps: int
    wakeups: int


class WorkerList(Result, frozen=True):
    tsc_khz: int
    at_ns: int  # monotonic clock at reading: loads are differences over differences
    workers: tuple[Worker, ...]


class WorkerQueue(Result, frozen=True):
    """A queue by which a guest sends."""

    port: str
    queue: int
    frames: int
    cycles: int  # spent on them, delivery included; also by other workers that had the queue


class WorkerDetail(Result, frozen=True):
    """``queues`` stops after the 400 that cost most."""

    tsc_khz: int
    at_ns: int
    worker: Worker
    queues: tuple[WorkerQueue, ...]

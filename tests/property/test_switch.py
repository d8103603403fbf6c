# SPDX-License-Identifier: Apache-2.0
"""Random lives of a switch: the library and the model must agree about every byte.

The same lives each time.  One of them again, or others::

    python -m tests.property.test_switch --seed 4711 --lives 1
"""

from __future__ import annotations

import argparse

import pytest

from vif_uswitch.dataplane import native
from vif_uswitch.exceptions import Unavailable

from . import model, offloads
from .machine import Life
from .offloads import Request

try:
    native.build_id()
except Unavailable as error:
    pytest.skip(str(error), allow_module_level=True)

LIVES = 400
STEPS = 40


def run(seed: int, known: model.Model | None = None) -> int:
    """One life; returns the number of frames delivered and compared."""
    life = Life(seed, known)
    try:
        life.live(STEPS)
    except AssertionError as error:
        did = ", ".join(life.did[-8:])
        raise AssertionError(f"seed {seed}, step {len(life.did)} ({did}): {error}") from error
    finally:
        life.close()
    return life.frames


@pytest.mark.slow
@pytest.mark.parametrize("tenth", range(10))
def test_the_library_is_the_model(tenth: int) -> None:
    assert sum(run(seed) for seed in range(tenth, LIVES, 10)) > 1000


class OtherModel(model.Model):
    """A model that is wrong in one way."""


class ForgetsPins(OtherModel):
    def _pin(self, port: model.Port, keys: set[tuple[int, bytes]]) -> None:
        super()._pin(port, set(list(keys)[:-1]))


class FloodsToAll(OtherModel):
    def _resolve(self, port: model.Port, frame: model.Live) -> model.Port | str | None:
        return None


class NoQuota(OtherModel):
    def _learn(self, port: model.Port, segment: int, source: bytes) -> None:
        self.learned.setdefault((segment, source), port.id)


class OneByteOff(OtherModel):
    def _classify(self, port: model.Port, data: bytes, request: Request) -> model.Live | None:
        found = super()._classify(port, data, request)
        if found and len(found.data) > 70:
            found.data = found.data[:-1] + bytes([found.data[-1] ^ 1])
        return found


class LosesPriority(OtherModel):
    def _classify(self, port: model.Port, data: bytes, request: Request) -> model.Live | None:
        found = super()._classify(port, data, request)
        if found:
            found.priority = 0
        return found


@pytest.mark.slow
@pytest.mark.parametrize("wrong", OtherModel.__subclasses__())
def test_a_difference_is_found(wrong: type[OtherModel]) -> None:
    """Were the library wrong in the same way as this model is, it would not pass either."""
    with pytest.raises(AssertionError, match="seed"):
        for seed in range(LIVES):
            run(seed, wrong())


def test_checksum() -> None:
    header = bytes.fromhex("4500007300004000401100 00c0a80001c0a800c7")
    assert offloads.checksum(header) == 0xB861


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lives", type=int, default=LIVES)
    args = parser.parse_args()
    frames = sum(run(seed) for seed in range(args.seed, args.seed + args.lives))
    print(f"{args.lives} lives from seed {args.seed}: {frames} frames delivered, all right")


if __name__ == "__main__":
    main()

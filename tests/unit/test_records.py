# SPDX-License-Identifier: Apache-2.0
"""Our NamedTuple is what that of typing is, as far as we use it."""

from __future__ import annotations

import pickle
import typing

import pytest

from vif_uswitch import records


class Ours(records.NamedTuple):
    """A place."""

    name: str
    number: int = 7
    many: tuple[str, ...] = ()

    @property
    def both(self) -> str:
        return f"{self.name} {self.number}"

    def twice(self) -> int:
        return 2 * self.number


class Theirs(typing.NamedTuple):
    """A place."""

    name: str
    number: int = 7
    many: tuple[str, ...] = ()

    @property
    def both(self) -> str:
        return f"{self.name} {self.number}"

    def twice(self) -> int:
        return 2 * self.number


def test_it_behaves_as_that_of_typing() -> None:
    ours, theirs = Ours("a", many=("x",)), Theirs("a", many=("x",))
    assert (*ours,) == (*theirs,) and hash(ours) == hash(theirs)
    assert repr(ours) == repr(theirs).replace("Theirs", "Ours")
    assert (ours.both, ours.twice()) == (theirs.both, theirs.twice()) == ("a 7", 14)
    assert Ours._fields == Theirs._fields and Ours._field_defaults == Theirs._field_defaults
    assert Ours.__doc__ == Theirs.__doc__ and Ours.__module__ == Theirs.__module__
    assert ours._replace(number=8) == Ours("a", 8, ("x",))
    assert pickle.loads(pickle.dumps(ours)) == ours


@pytest.mark.parametrize("kind", [Ours, Theirs])
def test_it_refuses_the_same(kind: type[Ours]) -> None:
    with pytest.raises(AttributeError):
        kind("a").name = "b"  # type: ignore[misc]
    with pytest.raises(TypeError, match="'name'"):
        kind()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="'colour'"):
        kind("a", colour=1)  # type: ignore[call-arg]

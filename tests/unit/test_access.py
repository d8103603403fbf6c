# SPDX-License-Identifier: Apache-2.0
"""Modes and access lists, computed; and whether the kernel computes the same."""

from __future__ import annotations

import itertools
import json
import os
import random
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from vif_uswitch.access import (
    READ,
    SEARCH,
    WRITE,
    Identity,
    effective_ids,
    may,
    parse_acl,
    read_acl,
)

OWNER, NAMED, GROUP, NAMED_GROUP, MASK, OTHERS = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
NO_ID = 0xFFFFFFFF


def info(mode: int, uid: int = 1, gid: int = 2) -> os.stat_result:
    return os.stat_result((mode, 0, 0, 1, uid, gid, 0, 0, 0, 0))


def acl(*entries: tuple[int, int, int]) -> bytes:
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


@pytest.mark.parametrize(("who", "mode", "allowed"), [
    (Identity("owner", 1), 0o700, True),
    (Identity("owner", 1), 0o077, False),  # the owner's bits alone count for the owner
    (Identity("member", 5, frozenset({2})), 0o070, True),
    (Identity("member", 5, frozenset({2})), 0o707, False),
    (Identity("other", 5), 0o007, True),
    (Identity("other", 5), 0o770, False),
    (Identity("root", 0), 0o000, True),
])
def test_modes(who: Identity, mode: int, allowed: bool) -> None:
    assert may(who, info(mode), READ | WRITE | SEARCH) is allowed


@pytest.mark.parametrize(("uid", "gids", "allowed"), [
    (50, set(), True), (51, set(), False), (60, {70}, True), (60, {71}, False), (60, {2}, False),
])
def test_acls(uid: int, gids: set[int], allowed: bool) -> None:
    found = parse_acl(acl((OWNER, 7, NO_ID), (NAMED, 6, 50), (NAMED, 4, 51), (GROUP, 4, NO_ID),
                          (NAMED_GROUP, 7, 70), (NAMED_GROUP, 4, 71), (MASK, 6, NO_ID),
                          (OTHERS, 7, NO_ID)))
    assert found is not None
    assert may(Identity("x", uid, frozenset(gids)), info(0o777), WRITE, found) is allowed


@pytest.mark.parametrize("data", [b"", b"\x02", struct.pack("<I", 3), acl() + b"x"])
def test_acls_that_are_none(data: bytes) -> None:
    assert parse_acl(data) is None


def test_ids_of_a_process() -> None:
    text = "Name:\tx:y\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t9 10 \n"
    assert effective_ids(text) == (2, frozenset({6, 9, 10}))
    assert effective_ids(text.replace("9 10 ", "")) == (2, frozenset({6}))
    for broken in ("", "Uid:\t1\n", text.replace("\t2\t3\t4", ""), text.replace("9", "nine")):
        assert effective_ids(broken) is None


# ---- against the kernel ----

FILES = 200
ASK = """
import json, os, sys
uid, gids, directory, count = json.loads(sys.argv[1])
os.setgroups(gids); os.setresgid(60, 60, 60); os.setresuid(uid, uid, uid)
print(json.dumps([[os.access(f"{directory}/{n}", bits) for bits in range(1, 8)]
                  for n in range(count)]))
"""


@pytest.fixture
def listed_files() -> Iterator[Path]:
    """Files of user 1 and group 2 with random modes and access lists."""
    if os.geteuid() != 0:
        pytest.skip("gives files to other users")
    rng = random.Random(7)
    with tempfile.TemporaryDirectory(prefix="us-", dir="/dev/shm") as name:
        os.chmod(name, 0o755)
        for number in range(FILES):
            path = Path(name, str(number))
            path.touch()
            os.chown(path, 1, 2)
            os.chmod(path, rng.randrange(0o1000))
            entries = [(NAMED, rng.randrange(8), 50), (GROUP, rng.randrange(8), NO_ID),
                       (NAMED_GROUP, rng.randrange(8), 70), (NAMED_GROUP, rng.randrange(8), 71)]
            if number % 4:
                rights = acl((OWNER, rng.randrange(8), NO_ID), *entries,
                             (MASK, rng.choice((0, rng.randrange(8))), NO_ID),
                             (OTHERS, rng.randrange(8), NO_ID))  # fmt: skip
                try:
                    os.setxattr(path, "system.posix_acl_access", rights)
                except OSError as error:
                    pytest.skip(f"no access lists on /dev/shm: {error}")
        yield Path(name)


@pytest.mark.parametrize("who", [
    Identity("owner", 1, frozenset({60})), Identity("named", 50, frozenset({60})),
    Identity("named too", 50, frozenset({2, 60})), Identity("member", 51, frozenset({2, 60})),
    Identity("of a named group", 51, frozenset({60, 70})),
    Identity("of two", 51, frozenset({60, 70, 71})),
    Identity("of all", 51, frozenset({2, 60, 70, 71})), Identity("other", 51, frozenset({60})),
], ids=lambda who: who.name)  # fmt: skip
def test_the_kernel_says_the_same(listed_files: Path, who: Identity) -> None:
    asked = json.dumps([who.uid, sorted(who.gids), str(listed_files), FILES])
    done = subprocess.run([sys.executable, "-c", ASK, asked], check=True, capture_output=True)
    wrong = []
    for number, answers in enumerate(json.loads(done.stdout)):
        path = listed_files / str(number)
        found, rights = path.stat(), read_acl(path)
        assert (rights is not None) is bool(number % 4)
        wrong += [(oct(found.st_mode), rights, bits) for bits, answer
                  in zip(itertools.count(1), answers, strict=False)
                  if may(who, found, bits, rights) is not answer]  # fmt: skip
    assert not wrong

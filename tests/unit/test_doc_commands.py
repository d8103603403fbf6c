# SPDX-License-Identifier: Apache-2.0
"""Every command of ours that a page shows, and that nobody types, is one that our programs take.

Blocks are typed as they stand (functional/doc_typist.py), but for those whose mark says that they
are text: they want a cloud, or minutes.  Nor is what stands within a sentence.  What can be said of
both is that no option is gone, and that every target of make is there.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import pathlib
import re
import shlex
from collections.abc import Iterator

import pytest

from tests.functional import doc_blocks
from vif_uswitch.cmd import uswitchctl
from vif_uswitch.uplink import cli

TOP = pathlib.Path(__file__).resolve().parents[2]
PARSERS = {"uswitchctl": lambda: uswitchctl.build().parser, "uswitch-uplink": cli.build}
PROMPT = re.compile(r"^(?:[$#] |sudo (?:-u \w+ )?)*(?:\S*/bin/)?")
# A form instead of a command, or text beside commands in two columns.
FORM = re.compile(r"[…|\[<]|\.\.\.")
ENDS = (";", "&&", "||", "&", ">")
REMARK = re.compile(r"(?:\s{3,}|\s+#\s).*$")
LITERAL = re.compile(r"``([^`]+)``")
LEFT_OUT = "the following arguments are required"


def in_blocks(page: str) -> Iterator[str]:
    """Lines that nobody types, those that go on after a backslash joined."""
    for step in doc_blocks.read(page).texts:
        yield from re.sub(r"\\\n\s*", "", step.text).splitlines()


def in_sentences(page: str) -> Iterator[str]:
    """Literals, which may be broken at the end of a line."""
    for found in LITERAL.findall("\n".join(doc_blocks.lines(page))):
        yield " ".join(found.split())


def command(line: str) -> list[str]:
    """Words of one of our programs or of make, without prompt and remark; [] if it is no such."""
    plain = REMARK.sub("", PROMPT.sub("", line.strip()))
    if plain.split(" ")[0] not in (*PARSERS, "make") or FORM.search(plain):
        return []
    return list(itertools.takewhile(lambda word: word not in ENDS, shlex.split(plain)))


def complaint(words: list[str], targets: set[str]) -> str:
    """What the program would say of its arguments, "" if it takes them."""
    if words[0] == "make":
        wanted = [word for word in words[1:] if "=" not in word and not word.startswith("-")]
        directories = itertools.takewhile(lambda word: word != "-C", words)
        here = len(list(directories)) == len(words)
        return f"no targets {set(wanted) - targets}" if here and set(wanted) - targets else ""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            PARSERS[words[0]]().parse_args(words[1:])
    except SystemExit as end:
        return said.getvalue() if end.code else ""
    return ""


def named(words: list[str], targets: set[str]) -> str:
    """The same of a sentence's, which may leave out what the command is about."""
    said = complaint(words, targets)
    return "" if LEFT_OUT in said else said


@pytest.fixture(scope="module")
def targets() -> set[str]:
    found = set()
    for makefile in (TOP / "Makefile", TOP / "dataplane/Makefile"):
        heads = re.findall(r"^([a-z0-9][\w -]*):(?!=)", makefile.read_text(), re.MULTILINE)
        found |= {name for head in heads for name in head.split()}
    return found


@pytest.mark.parametrize("page", doc_blocks.names())
def test_commands_are_such(page: str, targets: set[str]) -> None:
    wrong = [
        f"{shlex.join(words)}: {said}"
        for lines, judge in ((in_blocks, complaint), (in_sentences, named))
        for words in map(command, lines(page))
        if words and (said := judge(words, targets))
    ]
    assert not wrong, "\n".join(wrong)


def test_what_it_would_find(targets: set[str]) -> None:
    found = list(map(command, (
        "# uswitchctl port list --nonsense   which is none", "sudo make nothing",
        "uswitchctl port add vm1 --segment blue   # a remark", "make test",
        "uswitchctl nonsense", "uswitchctl port add|set", "true",
    )))  # fmt: skip
    assert found == [["uswitchctl", "port", "list", "--nonsense"], ["make", "nothing"],
                     ["uswitchctl", "port", "add", "vm1", "--segment", "blue"], ["make", "test"],
                     ["uswitchctl", "nonsense"], [], []]  # fmt: skip
    assert [bool(complaint(words, targets)) for words in found[:5]] == [
        True, True, False, False, True]  # fmt: skip
    assert named(["uswitchctl", "port", "show"], targets) == ""
    assert named(["uswitchctl", "port", "look"], targets) != ""


def test_there_are_commands_to_check() -> None:
    for lines, least in ((in_blocks, 10), (in_sentences, 60)):
        found = [words for page in doc_blocks.names() for words in map(command, lines(page))]
        assert sum(map(bool, found)) > least

# SPDX-License-Identifier: Apache-2.0
"""The literal blocks of a page of doc/source, and what its comments say is to be done with each.

A mark is a comment of reStructuredText, so that no reader sees it.  It stands
before the block (a paragraph of text may come between) and concerns that one:

    .. bed: session               once a page: what stands ready (doc_beds.py); its name and no more
    .. run: user                  typed by that user (user or root, of the bed) into a shell that
                                  ends at the first failure
    .. run: user fails            has to fail
    .. run: user until TEXT       goes on to the end of the page; the next block has to wait until
                                  it has printed TEXT
    .. run: guest vm1             typed into that guest, each line by itself
    .. shows: ping vm2            what the block before has printed must have these lines, in this
                                  order; "…" stands for anything; what stands after shows: is
                                  for people
    .. file: PATH                 the content of that file, written as user of the bed (~ is home);
                                  ".. file: root PATH" as that one
    .. text: WHY                  no commands: the form of one, a picture, a fragment
    .. hidden: user               commands in the comment itself, indented, not for readers: what a
                                  reader has done before (fails, until and guest as above)

Every literal block of such a page has a mark, or the page is refused: no command
escapes because somebody forgot it.  No I/O beside reading the page.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

PAGES = Path(__file__).resolve().parents[2] / "doc/source"
RUN = ("rootless", "libvirt", "domain")
"""Pages that test_doc_shell.py runs."""
MARK = re.compile(r"\.\. (bed|run|shows|file|text|hidden):(?!:)[ ]*(.*)")
DIRECTIVE = re.compile(r"\.\. (?:code-block|code|sourcecode)::")
EVERYTHING = "…"


class PageError(Exception):
    """A page that cannot be run as it stands; says where."""


@dataclass(frozen=True, slots=True)
class Step:
    """One block and its mark.  ``words``: what stands behind the mark's colon."""

    page: str
    line: int
    kind: str
    words: tuple[str, ...]
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def who(self) -> str:
        return self.words[0] if self.words else ""

    def until(self) -> str:
        """What a program that goes on prints when it is ready; "" if it is none."""
        return " ".join(self.words[2:]) if self.words[1:2] == ("until",) else ""


@dataclass(frozen=True, slots=True)
class Page:
    name: str
    bed: str
    steps: tuple[Step, ...] = field(default=())


def read(name: str, text: str | None = None) -> Page:
    """Page ``name`` (without .rst); PageError names the line that is wrong."""
    lines = (text or (PAGES / f"{name}.rst").read_text(encoding="utf-8")).splitlines()
    bed, steps = "", []
    mark: tuple[str, tuple[str, ...]] | None = None
    for number, kind, words, block in _parts(lines):
        where = f"{name}.rst:{number}"
        if kind == "block":
            if mark is None:
                raise PageError(f"{where}: this block has no mark (see tests/functional/"
                                "doc_blocks.py)")  # fmt: skip
            steps.append(_checked(Step(f"{name}.rst", number, *mark, block)))
            mark = None
        elif mark is not None:
            raise PageError(f"{where}: the mark before this one has no block")
        elif kind == "bed":
            bed = " ".join(words)
        elif kind == "hidden":
            steps.append(_checked(Step(f"{name}.rst", number, "run", words, block)))
        else:
            mark = (kind, words)
    if mark is not None:
        raise PageError(f"{name}.rst: its last mark has no block")
    if not bed:
        raise PageError(f"{name}.rst has no '.. bed: NAME'")
    return Page(name, bed, tuple(steps))


def _checked(step: Step) -> Step:
    """Marks that say what nobody understands would pass for a block that ran."""
    words, good = step.words, True
    if step.kind == "run":
        good = (bool(words) and (
            words[1:] in ((), ("fails",)) if words[0] != "guest" else len(words) == 2
        )) or bool(step.until())  # fmt: skip
    elif step.kind == "file":
        good = len(words) in (1, 2)
    elif step.kind == "text":
        good = bool(words)
    if not good or not step.text.strip():
        raise PageError(f"{step}: '.. {step.kind}: {' '.join(words)}' is not understood, or empty")
    return step


def _parts(lines: list[str]) -> Iterator[tuple[int, str, tuple[str, ...], str]]:
    """(line number, "block" or a mark's name, its words, the block) in order."""
    number = 0
    while number < len(lines):
        line = lines[number]
        found = MARK.fullmatch(line.strip())
        if found:
            end = number + 1
            if found[1] == "hidden":
                end = _indented(lines, end, _indent(line))
            yield number + 1, found[1], tuple(found[2].split()), _text(lines[number + 1 : end])
            number = end
            continue
        number += 1
        directive = DIRECTIVE.match(line.strip())
        if directive or (line.rstrip().endswith("::") and not line.lstrip().startswith("..")):
            end = _indented(lines, number, _indent(line))
            block = lines[number:end]
            while directive and block and re.match(r"\s+:[\w-]+:", block[0]):
                block = block[1:]
            yield number, "block", (), _text(block)
            number = end


def _indented(lines: list[str], start: int, indent: int) -> int:
    """The first line from ``start`` on that is neither empty nor deeper than ``indent``."""
    while start < len(lines) and (not lines[start].strip() or _indent(lines[start]) > indent):
        start += 1
    return start


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _text(lines: list[str]) -> str:
    return textwrap.dedent("\n".join(lines)).strip("\n") + "\n"


def missing(expected: str, said: str) -> str:
    """The first line of ``expected`` that ``said`` does not have in that order, "" if none.

    Runs of blanks are one; "…" is anything, within a line or as a line of its own.
    """
    there = iter([" ".join(line.split()) for line in said.splitlines()])
    for line in expected.splitlines():
        wanted = " ".join(line.split())
        if wanted in ("", EVERYTHING):
            continue
        pattern = re.compile(".*".join(re.escape(part) for part in wanted.split(EVERYTHING)))
        if not any(pattern.fullmatch(one) for one in there):
            return line
    return ""

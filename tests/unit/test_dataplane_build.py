# SPDX-License-Identifier: Apache-2.0
"""The cffi builder: what it cuts out of uswitch.h, what it rewrites, what it refuses."""

from __future__ import annotations

import subprocess
import sys

import pytest
from cffi import FFI

from vif_uswitch import _dataplane_build as build


def header(body: str) -> str:
    lines = ["#ifndef X", "#define X", "#include <a.h>", build.BEGIN, body, build.END, "#endif"]
    return "\n".join(lines) + "\n"


def parsed(body: str) -> FFI:
    ffi = FFI()
    ffi.cdef(build.to_cdef(build.slice_header(header(body))))
    return ffi


def constants(body: str) -> dict[str, int]:
    lines = build.to_cdef(build.slice_header(header(body))).splitlines()
    defines = [line.split() for line in lines if line.startswith("#define")]
    return {name: int(value, 0) for _, name, value in defines}


def test_the_real_header_is_accepted() -> None:
    assert build.ffibuilder().sizeof("struct us_state_page") > 0


def test_only_the_marked_regions_are_taken() -> None:
    lines = ["no", build.BEGIN, "int a;", build.END, "no", build.BEGIN, "int b;", build.END]
    text = "\n".join(lines)
    assert build.slice_header(text).split() == ["int", "a;", "int", "b;"]


def test_line_numbers_are_kept() -> None:
    text = build.to_cdef(build.slice_header(header("/* a\n * b */\nint here;")))
    assert text.splitlines().index("int here;") == 6


@pytest.mark.parametrize("text", [
    "int a;\n",
    f"{build.BEGIN}\nint a;\n",
    f"{build.END}\n",
    f"{build.BEGIN}\n{build.BEGIN}\n{build.END}\n",
])
def test_broken_markers_are_refused(text: str) -> None:
    with pytest.raises(build.HeaderError, match="cffi"):
        build.slice_header(text)


@pytest.mark.parametrize(("expression", "value"), [
    ("12", 12),
    ("0x10", 16),
    ("(1 << 3)", 8),
    ("(1u << 3)", 8),
    ("(1ULL << 32)", 1 << 32),
    ("(0xffU & ~0)", None),
    ("(BASE + 1)", 101),
    ("(BASE * 2 | 1)", 201),
    ("-1", -1),
    ("sizeof(int)", None),
    ('"text"', None),
    ("(UNKNOWN + 1)", None),
])
def test_constants(expression: str, value: int | None) -> None:
    body = f"#define BASE 100\n#define FLAG\n#define IT {expression} /* why */\n"
    if value is None:
        with pytest.raises(build.HeaderError, match=r"uswitch.h:7: IT"):
            constants(body)
    else:
        assert constants(body) == {"BASE": 100, "IT": value}


def test_an_octal_constant_is_octal() -> None:
    ffi = parsed("#define A 010\n#define B (A + 1)\nstruct s { char a[A]; char b[B]; };")
    assert ffi.sizeof("struct s") == 8 + 9


def test_assertions_bodies_and_harmless_attributes_vanish() -> None:
    ffi = parsed("""
        struct s { int a; };
        _Static_assert(sizeof(struct s) == 4 && (1 + (2)), "size");
        static inline int get(const struct s *s)
        {
            if (s) { return s->a; }
            return 0;
        }
        int f(struct s *s) __attribute__((nonnull(1), __warn_unused_result__));
    """)
    assert ffi.sizeof("struct s") == 4
    assert ffi.typeof("int (*)(struct s *)")


@pytest.mark.parametrize(("body", "complaint"), [
    ("#include <stdio.h>", "#include between"),
    ("#ifdef A", "#ifdef between"),
    ("struct s { char c; int i; } __attribute__((packed));", "attribute packed"),
    ("int x __attribute__((aligned(64)));", "attribute aligned"),
    ("#define F(x) (x)", "macro F has arguments"),
    ("_Static_assert(sizeof(int", "unbalanced"),
])
def test_what_cffi_would_misread_is_refused(body: str, complaint: str) -> None:
    with pytest.raises(build.HeaderError, match=complaint):
        parsed(body)


ORDERED = """
import sys
from unittest import mock
import distutils.core, setuptools.dist
metadata, last = setuptools.dist.metadata, sys.argv[1]
listed = metadata.entry_points
def ordered(**wanted):
    return sorted(listed(**wanted), key=lambda point: point.name == last)
with mock.patch.object(metadata, "entry_points", ordered):
    made = distutils.core.run_setup("setup.py", ["build_ext"], stop_after="init")
command = made.get_command_class("build_ext")
print([one.__name__ for one in command.__mro__[:2]], len(made.ext_modules))
"""


@pytest.mark.parametrize("last", ["pbr", "cffi_modules"])
def test_the_extension_is_made_in_whichever_order_packages_are_listed(last: str) -> None:
    """The order is a file system's: another one where pip unpacks into a tmpfs."""
    done = subprocess.run([sys.executable, "-c", ORDERED, last], cwd=build.ROOT,
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "['build_ext_make_mod', 'BuildDataplane'] 1"

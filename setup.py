# SPDX-License-Identifier: Apache-2.0
"""What setup.cfg cannot say; pbr takes everything else from there.

pbr asks git for the version.  Where git cannot answer (an archive without
history, a checkout that belongs to somebody else) a fixed one is provided, so
that ``pip install .`` works there too; PBR_VERSION in the environment wins.
"""

import os
import pathlib
import subprocess
import sys

import setuptools
from cffi.setuptools_ext import cffi_modules

HERE = pathlib.Path(__file__).resolve().parent
FALLBACK_VERSION = "0.0.0"  # what pbr says where no tag is in reach


def git_answers() -> bool:
    if not (HERE / ".git").exists():  # nor may a repository around us answer
        return False
    try:
        asked = subprocess.run(
            ["git", "rev-parse", "--verify", "-q", "HEAD"],
            cwd=HERE, capture_output=True, check=False,
        )
    except FileNotFoundError:  # no git program
        return False
    return asked.returncode == 0


if not ("PBR_VERSION" in os.environ or (HERE / "PKG-INFO").exists() or git_answers()):
    os.environ["PBR_VERSION"] = FALLBACK_VERSION

# pbr imports BuildDataplane, which setup.cfg names, from the tree it builds.
sys.path.insert(0, str(HERE))


class Distribution(setuptools.Distribution):
    """cffi's part comes last.

    As a keyword beside pbr's it would come before it or after it, as the file
    system lists the two packages; and pbr replaces the commands it finds, that
    of cffi, which makes the C source, included.
    """

    def finalize_options(self):
        done = hasattr(self, "_pbr_initialized")  # pbr calls this once more, from within
        super().finalize_options()
        if not done:
            cffi_modules(self, "cffi_modules", ["vif_uswitch/_dataplane_build.py:ffibuilder"])


setuptools.setup(pbr=True, distclass=Distribution)

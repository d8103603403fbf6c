# SPDX-License-Identifier: Apache-2.0
"""The tests; a package, so that "python -m tests.bench" never finds another one of that name."""

# SPDX-License-Identifier: Apache-2.0
"""The stages of a run; ``plan.py`` puts them in order."""

# SPDX-License-Identifier: Apache-2.0
"""The whole library in one process, against a plain model of what a switch does."""

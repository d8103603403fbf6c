# SPDX-License-Identifier: Apache-2.0
"""The parts of the cloud, one concept a file; ``cloud.py`` puts them together."""

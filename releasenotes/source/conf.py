# SPDX-License-Identifier: Apache-2.0
"""Sphinx configuration of the release notes (reno collects them from git)."""

project = "vif-uswitch release notes"
author = "The vif-uswitch developers"
extensions = ["reno.sphinxext"]
root_doc = "index"
html_theme = "alabaster"

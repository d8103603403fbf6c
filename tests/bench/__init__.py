# SPDX-License-Identifier: Apache-2.0
"""What the switch costs, beside a reference, in one run: ``make bench``.

A case (``cases.py``) says what is sent; a contender (``contenders.py``) is a switch it is sent
through; the generator (``generator.py``) is the same for all of them.  ``rounds.py`` runs them in
turn, A B A B, and ``report.py`` prints medians and ratios.  More cases and more switches are rows
in those tables.  Nothing here asserts on time.
"""

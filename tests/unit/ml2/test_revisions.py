# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from vif_uswitch.ml2.revisions import COMPARE_PASSES, Revisions

from .switch_fake import NET2, PORT, PORT2, bound


def passes_until_due(revisions: Revisions) -> int:
    return next(number for number in range(1, 1000) if revisions.due())


def test_what_is_another_than_last_time() -> None:
    revisions = Revisions()
    old = [bound(PORT, revision_number=3), bound(PORT2, revision_number=7)]
    assert revisions.changed(old) == {PORT, PORT2}
    assert revisions.changed(old) == set()
    assert revisions.changed([old[0], bound(PORT2, revision_number=8)]) == {PORT2}
    assert revisions.changed([old[0]]) == {PORT2}, "no more bound here"
    assert revisions.changed([old[0], bound(NET2, revision_number=1)]) == {NET2}


def test_an_older_revision_is_a_change_as_well() -> None:
    """A database that was restored."""
    revisions = Revisions()
    revisions.changed([bound(PORT, revision_number=9)])
    assert revisions.changed([bound(PORT, revision_number=2)]) == {PORT}


def test_ports_without_revisions_do_not_change() -> None:
    revisions = Revisions()
    revisions.changed([bound(PORT)])
    assert revisions.changed([bound(PORT)]) == set()


def test_due_now_and_then_and_counted_from_the_last_answer() -> None:
    revisions = Revisions()
    assert passes_until_due(revisions) == COMPARE_PASSES
    assert revisions.due(), "until there is an answer"
    revisions.changed([])
    for _ in range(10):
        assert not revisions.due()
    revisions.changed([])
    assert passes_until_due(revisions) == COMPARE_PASSES

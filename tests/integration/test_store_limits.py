"""The cap and what is known after a restart, on real files: the first size of `make soak`'s."""

from bench import hold_cap


def test_the_cap_holds_under_load_and_from_above_and_a_restart_forgets_nothing() -> None:
    totals = hold_cap.run(turns=80)
    assert totals.wrong == []
    assert totals.evicted >= 2
    assert totals.records_saved > 0
    assert totals.records_refused > 0
    assert sum(totals.hits_before) > 0
    assert totals.hits_before == totals.hits_after

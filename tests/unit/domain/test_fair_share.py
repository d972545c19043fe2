from hypothesis import given
from hypothesis import strategies as st

from semantic.domain.fair_share import FairShare


def test_who_was_given_less_goes_first() -> None:
    share = FairShare()
    share.enter("a")
    share.enter("b")
    share.charge("a", 100)
    share.charge("b", 40)
    assert min("ab", key=share.served) == "b"


def test_nobody_saves_up_turns_while_away() -> None:
    share = FairShare()
    share.enter("busy")
    for _ in range(20):
        share.charge("busy", 500)
    share.enter("fresh")
    # Level with the turn that is being served.
    assert share.served("busy") - share.served("fresh") == 500


def test_nobody_gets_rid_of_what_it_was_given_by_coming_back() -> None:
    share = FairShare()
    share.enter("steady")
    share.enter("again")
    share.charge("again", 5000)
    share.leave("again")
    share.enter("again")
    assert share.served("again") == 5000
    assert min(("again", "steady"), key=share.turn) == "steady"


def test_who_waits_is_reached_however_many_come() -> None:
    share = FairShare()
    share.enter("idle")
    share.enter("waits")
    share.charge("waits", 20_000)
    for number in range(200):
        newcomer = f"newcomer {number}"
        share.enter(newcomer)
        for _ in range(3):
            if min((newcomer, "waits"), key=share.turn) == "waits":
                return
            share.charge(newcomer, 500)
        share.leave(newcomer)
    raise AssertionError("it was never its turn")


def test_a_party_is_one_however_many_requests_it_has() -> None:
    share = FairShare()
    share.enter("many")
    share.enter("one")
    for _ in range(3):
        share.enter("many")
        share.charge("many", 10)
    assert share.served("many") == 30
    share.charge("one", 50)
    share.charge("one", 50)
    for _ in range(4):
        share.leave("many")
    assert len(share) == 1


def test_among_equals_who_was_served_longest_ago_goes_first() -> None:
    share = FairShare()
    share.enter("a")
    share.enter("b")
    share.charge("a", 50)
    share.charge("b", 50)
    assert share.served("a") == share.served("b")
    assert min("ab", key=share.turn) == "a"
    share.charge("a", 50)
    assert min("ab", key=share.turn) == "b"
    share.charge("b", 50)
    share.charge("a", 50)
    assert min("ab", key=share.turn) == "b"


def test_strangers_are_ignored() -> None:
    share = FairShare()
    share.leave("nobody")
    share.charge("nobody", 5)
    assert len(share) == 0
    assert share.turn("nobody") == (0, 0)


@given(st.lists(st.integers(1, 512), min_size=1, max_size=6), st.integers(50, 400))
def test_shares_never_drift_apart_by_more_than_a_chunk(chunks: list[int], turns: int) -> None:
    share = FairShare()
    parties = range(len(chunks))
    for party in parties:
        share.enter(party)
    for _ in range(turns):
        party = min(parties, key=share.served)
        share.charge(party, chunks[party])
    served = [share.served(party) for party in parties]
    assert max(served) - min(served) <= max(chunks)

"""Whose turn it is: the agent's that has been given least.

Every token that is computed for an agent is counted; who comes back after a pause begins where the
least served of the others are, so that nobody saves turns up (virtual token counters, Sheng et
al., OSDI 2024, arXiv:2401.00588). Among equals who was served longest ago goes first.
"""

from collections.abc import Hashable
from dataclasses import dataclass

Party = Hashable
"""Who shares: an agent, or one request that no agent is named in."""


@dataclass(slots=True)
class _Account:
    """Tokens `served`, when that was the `last` time, and how many of its requests there are."""

    served: int = 0
    last: int = 0
    requests: int = 0


class FairShare:
    """What the parties that have requests were given."""

    def __init__(self) -> None:
        self._accounts: dict[Party, _Account] = {}
        self._charges = 0

    def __len__(self) -> int:
        return len(self._accounts)

    def enter(self, party: Party) -> None:
        """One more request of a party."""
        account = self._accounts.get(party)
        if account is None:
            least = min((one.served for one in self._accounts.values()), default=0)
            account = self._accounts[party] = _Account(least)
        account.requests += 1

    def leave(self, party: Party) -> None:
        """One request less; with the last one the party is forgotten. Unknown ones are ignored."""
        account = self._accounts.get(party)
        if account is None:
            return
        account.requests -= 1
        if not account.requests:
            del self._accounts[party]

    def charge(self, party: Party, tokens: int) -> None:
        """So many tokens were computed for a party; one without requests pays nothing."""
        self._charges += 1
        if account := self._accounts.get(party):
            account.served += tokens
            account.last = self._charges

    def served(self, party: Party) -> int:
        """What a party was given, as far as it counts."""
        account = self._accounts.get(party)
        return account.served if account else 0

    def turn(self, party: Party) -> tuple[int, int]:
        """When it is a party's turn: the least goes first."""
        account = self._accounts.get(party)
        return (account.served, account.last) if account else (0, 0)

"""Whose turn it is at prefill: the agent's that has been given least.

Every answer gets a token in each step; what is shared is prefill, and every token of it is counted.
Time is what the one last served had been given before; who comes begins there, or where it stood
itself if that is further. So nobody saves turns up or loses them by going, and whoever waits is
reached: time goes on with every turn (start-time fair queueing, Goyal et al., SIGCOMM 1996; compare
virtual token counters, Sheng et al., OSDI 2024). Among equals who was served longest ago is first.
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
    """What the parties were given that have requests, or are ahead of the others."""

    def __init__(self) -> None:
        self._accounts: dict[Party, _Account] = {}
        self._time = 0
        self._charges = 0

    def __len__(self) -> int:
        return len(self._accounts)

    def enter(self, party: Party) -> None:
        """One more request of a party."""
        account = self._accounts.setdefault(party, _Account())
        if not account.requests:
            account.served = max(account.served, self._time)
        account.requests += 1

    def leave(self, party: Party) -> None:
        """One request less. Unknown ones are ignored."""
        account = self._accounts.get(party)
        if account is None:
            return
        account.requests = max(0, account.requests - 1)
        self._forget()

    def charge(self, party: Party, tokens: int) -> None:
        """So many tokens were prefilled for a party; a stranger pays nothing."""
        self._charges += 1
        if account := self._accounts.get(party):
            self._time = max(self._time, account.served)
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

    def _forget(self) -> None:
        """Who has no requests and is not ahead begins as anybody."""
        gone = [
            party
            for party, account in self._accounts.items()
            if not account.requests and account.served <= self._time
        ]
        for party in gone:
            del self._accounts[party]

"""What a running sequence has sealed, and for whom."""

from dataclasses import dataclass, field

from semantic.domain.ids import BlockKey
from semantic.domain.prefix_index import BlockUse
from semantic.ports.model_executor import PartHandle


@dataclass(slots=True, eq=False, weakref_slot=True)
class Chain:
    """What a running sequence has sealed.

    `keys` are those of its full blocks, from the first token on, the first `public` of them for
    all; `behind` are the ends of those that windows still see, and what they see of them. What an
    agent is `named` for is written at once; of others what `came_back`. `seen` are the blocks that
    it has been counted for.
    """

    named: bool = True
    keys: list[BlockKey] = field(default_factory=list)
    public: int = 0
    behind: dict[BlockKey, tuple[int, PartHandle]] = field(default_factory=dict)
    came_back: tuple[BlockUse, ...] = ()
    seen: set[BlockKey] = field(default_factory=set)

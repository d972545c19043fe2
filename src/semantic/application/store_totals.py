"""What a store consists of, added up by model and kind of part, and pruning one nobody uses."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

from semantic.domain.block import PartKind, num_blocks
from semantic.domain.eviction import Evicted, KeptPart, Standing, evictions
from semantic.domain.ids import Namespace
from semantic.ports.block_store import BlockStore
from semantic.ports.store_space import StoreSpace


@dataclass(frozen=True, slots=True)
class Total:
    """Parts of one kind of one model, and the bytes that they take."""

    namespace: Namespace
    kind: PartKind
    parts: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Pruned:
    """What went."""

    blocks: int
    parts: int
    nbytes: int


def totals(parts: Iterable[KeptPart]) -> tuple[Total, ...]:
    """By model and kind, the largest first."""
    sizes: dict[tuple[Namespace, PartKind], list[int]] = {}
    for part in parts:
        sizes.setdefault((part.namespace, part.id.kind), []).append(part.nbytes)
    found = [Total(*place, len(of), sum(of)) for place, of in sizes.items()]
    return tuple(sorted(found, key=lambda total: -total.nbytes))


def prune(
    blocks: BlockStore,
    space: StoreSpace,
    now: float,
    *,
    to_bytes: int | None = None,
    unused_since: float | None = None,
) -> Pruned:
    """Delete what is missed least, leaves first; what was set aside goes first of all.

    With `to_bytes` until the whole store takes no more; with `unused_since` what was not used, and
    what was set aside and is no newer than that moment; with both, of the latter as much as the
    former asks for.

    Raises:
        CachePersistenceError: if something could not be removed.
    """
    surplus = None if to_bytes is None else space.usage() - to_bytes
    since = float("inf") if unused_since is None else unused_since
    freed = space.clear_quarantine(1 << 62 if surplus is None else surplus, since)
    wanted = None if surplus is None else surplus - freed
    going = list(_as_asked(evictions(space.kept(), Standing(now), since), wanted))
    for namespace, group in groupby(going, key=lambda part: part.namespace):
        blocks.delete(namespace, *(part.id for part in group))
    nbytes = freed + sum(part.nbytes for part in going)
    return Pruned(num_blocks(part.id for part in going), len(going), nbytes)


def _as_asked(going: Iterator[Evicted], wanted: int | None) -> Iterator[Evicted]:
    for part in going:
        if wanted is not None:
            if wanted <= 0:
                return
            wanted -= part.nbytes
        yield part

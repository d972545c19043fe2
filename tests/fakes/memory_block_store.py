"""The port `BlockStore` in memory, with faults on demand."""

from collections.abc import Iterator, Mapping, Sequence

from semantic.domain.block import BlockHeader, PartId, PartKind, PartOutline, StoredPart
from semantic.domain.block_hash import token_bytes
from semantic.domain.errors import CacheCorruptionError, CachePersistenceError
from semantic.domain.ids import BlockKey, Namespace, TenantId


class MemoryBlockStore:
    """Set `failing` to make the medium fail; `damage` entries to have them found damaged."""

    def __init__(self) -> None:
        self.failing = False
        self._parts: dict[tuple[Namespace, PartId], StoredPart] = {}
        self._tokens: dict[tuple[Namespace, BlockKey], bytes] = {}
        self._damaged: set[tuple[Namespace, PartId]] = set()

    def put(self, *parts: StoredPart) -> None:
        self._check("written")
        for part in parts:
            place = (part.header.namespace, part.header.id)
            if place in self._damaged:
                self._set_aside(place)
            self._parts.setdefault(place, part)
            tokens = token_bytes(part.header.tokens)
            self._tokens[part.header.namespace, part.header.key] = tokens

    def get(self, namespace: Namespace, part: PartId) -> StoredPart | None:
        self._check("read")
        place = (namespace, part)
        if place in self._damaged:
            self._set_aside(place)
            raise CacheCorruptionError(f"{part} was damaged by the test")
        return self._parts.get(place)

    def exists(self, namespace: Namespace, part: PartId) -> bool:
        return (namespace, part) in self._parts

    def delete(self, namespace: Namespace, *parts: PartId) -> None:
        self._check("removed")
        for part in parts:
            self._set_aside((namespace, part))

    def headers(self, namespace: Namespace) -> Iterator[BlockHeader]:
        for (owner, _), part in tuple(self._parts.items()):
            if owner == namespace:
                yield part.header

    def outlines(self, namespace: Namespace) -> Iterator[PartOutline]:
        return (header.outline for header in self.headers(namespace))

    def tokens(self, namespace: Namespace, keys: Sequence[BlockKey]) -> Mapping[BlockKey, bytes]:
        # As an index does: what disappears behind the store's back is still known.
        return {
            key: self._tokens[namespace, key] for key in keys if (namespace, key) in self._tokens
        }

    def committed(self, namespace: Namespace, keys: Sequence[BlockKey]) -> frozenset[BlockKey]:
        there = {header.key for header in self.headers(namespace) if header.kind.begins}
        return frozenset(there.intersection(keys))

    def following(
        self, namespace: Namespace, parent: BlockKey, tenant: TenantId
    ) -> Sequence[bytes]:
        return [
            token_bytes(header.tokens)
            for header in self.headers(namespace)
            if (header.parent, header.tenant) == (parent, tenant) and header.kind.begins
        ]

    def nbytes(self, namespace: Namespace, part: PartId) -> int:
        found = self._parts.get((namespace, part))
        return found.nbytes if found else 0

    def damage(self, namespace: Namespace, part: PartId) -> None:
        """Make the next `get` of a part find it damaged."""
        self._damaged.add((namespace, part))

    def _set_aside(self, place: tuple[Namespace, PartId]) -> None:
        self._parts.pop(place, None)
        self._damaged.discard(place)
        namespace, (key, _) = place
        if not any((namespace, PartId(key, kind)) in self._parts for kind in PartKind):
            self._tokens.pop((namespace, key), None)

    def _check(self, action: str) -> None:
        if self.failing:
            raise CachePersistenceError(f"nothing can be {action}: the test says so")

"""Several tenants' blocks and public ones, against a list that is searched from end to end."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.fakes.blocks import SECRET

from semantic.domain.block import BlockHeader, PartId, PartKind
from semantic.domain.block_hash import (
    PUBLIC_KEYS,
    TenantKeys,
    block_key,
    root_key,
    tenant_keys,
    token_bytes,
)
from semantic.domain.ids import PUBLIC, BlockKey, Namespace, TenantId, TokenId
from semantic.domain.prefix_index import BlockUse, PrefixIndex, common_length
from semantic.domain.resume import ResumeRule

SIZE = 3
NAMESPACE = Namespace("ns")
ROOT = root_key(NAMESPACE, SECRET)
TENANTS = [PUBLIC_KEYS, *(tenant_keys(TenantId(name), SECRET) for name in ("ann", "bea"))]
SLIDING, STATE = PartKind.SLIDING, PartKind.STATE
LEAST_STEPS = 10_000

Had = Callable[[PartId], bool]
tenants = st.sampled_from(TENANTS)
stretches = st.lists(st.integers(0, 1), min_size=1, max_size=SIZE).map(tuple)
wholes = st.lists(st.integers(0, 1), min_size=SIZE, max_size=SIZE).map(tuple)
prompts = st.lists(st.integers(0, 1), max_size=4 * SIZE)


@dataclass(frozen=True, slots=True)
class Written:
    """A token sequence of a tenant's, which begins with `public` public blocks: its last block."""

    tenant: TenantId
    tokens: tuple[TokenId, ...]
    public: int

    @property
    def header(self) -> BlockHeader:
        parent, start = ROOT, 0
        for count in range(len(self.tokens) // SIZE + 1):
            salt = tenant_keys(self.tenant, SECRET).salt if count == self.public else b""
            start, stretch = count * SIZE, self.tokens[count * SIZE :][:SIZE]
            key = block_key(parent, stretch, salt)
            if start + len(stretch) == len(self.tokens):
                break
            parent = key
        kind = PartKind.FULL if len(stretch) == SIZE else PartKind.TAIL
        return BlockHeader(key, parent, NAMESPACE, kind, start, stretch, self.tenant)

    def followed_by(self, tokens: tuple[TokenId, ...], tenant: TenantId) -> "Written":
        """The block that follows a whole one."""
        count = len(self.tokens) // SIZE
        mine = count if tenant != PUBLIC and self.tenant == PUBLIC else self.public
        return Written(tenant, self.tokens + tokens, count + 1 if tenant == PUBLIC else mine)


EMPTY = Written(PUBLIC, (), 0)


class Tenancy(RuleBasedStateMachine):
    RULE = ResumeRule()
    steps = 0

    def __init__(self) -> None:
        super().__init__()
        self.index = PrefixIndex(ROOT, SIZE, self.RULE, self.fetch)
        self.seen: dict[Written, BlockHeader] = {}
        self.model: dict[BlockKey, BlockHeader] = {}
        self.extras: set[PartId] = set()

    def fetch(self, keys: Sequence[BlockKey]) -> dict[BlockKey, bytes]:
        """Everything that ever was rests elsewhere, too."""
        return {one.key: token_bytes(one.tokens) for one in self.seen.values() if one.key in keys}

    @rule(
        who=st.sampled_from([keys.tenant for keys in TENANTS]),
        tokens=wholes | stretches,
        data=st.data(),
        learned=st.booleans(),
        whole=st.booleans(),
    )
    def add(
        self,
        who: TenantId,
        tokens: tuple[TokenId, ...],
        data: st.DataObject,
        *,
        learned: bool,
        whole: bool,
    ) -> None:
        """Add a block after one that is there, or was once."""
        before = data.draw(st.sampled_from([EMPTY, *self.may_be_followed(who)]))
        written = before.followed_by(tokens, who)
        one = self.seen.setdefault(written, written.header)
        parts = [one, *(replace(one, kind=kind) for kind in (self.RULE.extras if whole else ()))]
        if learned:
            self.index.learn(NAMESPACE, [part.outline for part in parts])
        else:
            for part in parts:
                self.index.add(part)
        self.model[one.key] = one
        self.extras |= {part.id for part in parts[1:]}

    def may_be_followed(self, who: TenantId) -> list[Written]:
        return [
            written
            for written, one in self.seen.items()
            if one.kind is PartKind.FULL and written.tenant in (PUBLIC, who)
        ]

    @precondition(lambda self: bool(self.seen and self.RULE.extras))
    @rule(data=st.data())
    def add_to_a_block(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from([*self.seen.values()]))
        kind = data.draw(st.sampled_from(self.RULE.extras))
        self.index.add(replace(one, kind=kind))
        self.extras.add(PartId(one.key, kind))

    @precondition(lambda self: bool(self.model))
    @rule(data=st.data(), who=tenants)
    def call_anothers_block_ones_own(self, data: st.DataObject, who: TenantKeys) -> None:
        """It changes nothing: whoever knows a block's key has no right to it by that."""
        one = data.draw(st.sampled_from([*self.model.values()]))
        self.index.learn(NAMESPACE, [replace(one, tenant=who.tenant, kind=STATE).outline])
        if who.tenant == one.tenant:
            self.extras.add(PartId(one.key, STATE))

    @precondition(lambda self: bool(self.seen))
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        self.index.release(data.draw(st.sampled_from([*self.seen.values()])).key)

    @precondition(lambda self: bool(self.seen))
    @rule(data=st.data(), by_part=st.booleans())
    def remove(self, data: st.DataObject, *, by_part: bool) -> None:
        chosen = data.draw(st.sampled_from([*self.seen.values()]))
        removed = self.index.remove_part(chosen.id) if by_part else self.index.remove(chosen.key)
        gone = [chosen.key] if chosen.key in self.model else []
        for key in gone:
            gone.extend(one.key for one in self.model.values() if one.parent == key)
        parts = {self.model[key].id for key in gone}
        parts |= {part for part in self.extras if part.key in gone}
        assert len(removed) == len(set(removed))
        assert set(removed) == parts
        self.model = {key: one for key, one in self.model.items() if key not in gone}
        self.extras -= parts

    @precondition(lambda self: bool(self.extras))
    @rule(data=st.data())
    def remove_extra(self, data: st.DataObject) -> None:
        part = data.draw(st.sampled_from(sorted(self.extras, key=str)))
        assert self.index.remove_part(part) == (part,)
        self.extras.remove(part)

    @rule(prompt=prompts, who=tenants)
    def match(self, prompt: list[TokenId], who: TenantKeys) -> None:
        self.check(prompt, who.tenant, self.index.match(prompt, who), lambda _: True)
        alone = self.index_of_visible(who.tenant)
        assert self.index.match(prompt, who) == alone.match(prompt, who)

    @rule(prompt=prompts, who=tenants, data=st.data())
    def match_with_some(self, prompt: list[TokenId], who: TenantKeys, data: st.DataObject) -> None:
        """Only some of the parts can be had."""
        parts = sorted({one.id for one in self.model.values()} | self.extras, key=str)
        absent = data.draw(st.sets(st.sampled_from(parts))) if parts else set()
        uses = self.index.match(prompt, who, lambda part: part in parts and part not in absent)
        self.check(prompt, who.tenant, uses, lambda part: part not in absent)

    @rule(prompt=prompts, who=tenants)
    def find_whole_blocks_and_resume_points(self, prompt: list[TokenId], who: TenantKeys) -> None:
        own = [
            chain[-1]
            for chain in self.chains(prompt, who.tenant, lambda _: True)
            if chain[-1].tenant == who.tenant and prompt_has(prompt, chain[-1])
        ]
        whole = {(one.key, one.end) for one in own if one.kind is PartKind.FULL}
        assert set(self.index.whole_blocks(prompt, who)) == whole
        points = {
            (one.end, frozenset(parts)) for one in own if (parts := self.for_a_point_alone(one))
        }
        found = self.index.resume_points(prompt, who)
        assert {(point.end, frozenset(point.parts)) for point in found} == points
        assert len(found) == len(points)

    def for_a_point_alone(self, one: BlockHeader) -> set[PartId]:
        parts = {part for part in self.extras if part.key == one.key}
        if one.kind is PartKind.TAIL:
            return {one.id, *parts}
        return {part for part in parts if part.kind is STATE}

    def index_of_visible(self, who: TenantId) -> PrefixIndex:
        """As if other tenants' blocks were not there, and the rest had come in another order."""
        index = PrefixIndex(ROOT, SIZE, self.RULE)
        for key in sorted(self.model):
            one = self.model[key]
            for part in sorted(self.extras, key=str):
                if part.key == key and one.tenant in (PUBLIC, who):
                    index.add(replace(one, kind=part.kind))
            if one.tenant in (PUBLIC, who):
                index.add(one)
        return index

    def check(
        self, prompt: list[TokenId], who: TenantId, uses: tuple[BlockUse, ...], had: Had
    ) -> None:
        """The uses are a chain the tenant may see and continue, and none reaches further."""
        chain = [self.model[use.key] for use in uses]
        position, parent = 0, ROOT
        for use, one in zip(uses, chain, strict=True):
            assert one.parent == parent
            assert one.tenant in (PUBLIC, who)
            assert use.public == (one.tenant == PUBLIC)
            assert 0 < use.length <= len(one.tokens)
            assert one.tokens[: use.length] == tuple(prompt[position : position + use.length])
            position, parent = position + use.length, one.key
        assert all(use.length == SIZE for use in uses[:-1])
        assert [list(use.ids) for use in uses] == self.needed(chain, position)
        assert self.resumable(chain, position, had)
        assert position == self.longest(prompt, who, had)
        if position == self.longest(prompt, PUBLIC, had):
            assert all(use.public for use in uses)

    def longest(self, prompt: list[TokenId], who: TenantId, had: Had) -> int:
        """The last of all positions in `prompt` from which something known can be continued."""
        return max(
            (
                chain[-1].start + length
                for chain in self.chains(prompt, who, had)
                for length in range(
                    1, common_length(chain[-1].tokens, prompt[chain[-1].start :]) + 1
                )
                if self.resumable(chain, chain[-1].start + length, had)
            ),
            default=0,
        )

    def chains(self, prompt: list[TokenId], who: TenantId, had: Had) -> Iterator[list[BlockHeader]]:
        """All chains that a tenant sees, of which all blocks but the last are in `prompt`."""
        ahead: list[list[BlockHeader]] = [[]]
        while ahead:
            chain = ahead.pop()
            parent = chain[-1].key if chain else ROOT
            for one in self.model.values():
                if one.parent == parent and one.tenant in (PUBLIC, who) and had(one.id):
                    yield [*chain, one]
                    if one.kind is PartKind.FULL and prompt_has(prompt, one):
                        ahead.append([*chain, one])

    def resumable(self, chain: list[BlockHeader], position: int, had: Had) -> bool:
        """Whether every token that a window sees is held, and the state at the end, too."""
        held = {part for part in self.extras if had(part)}
        for window in self.RULE.windows:
            for seen in range(max(0, position - (window - 1)), position):
                block = chain[seen // SIZE]
                first_held = block.end - min(len(block.tokens), window - 1)
                if PartId(block.key, SLIDING) not in held or seen < first_held:
                    return False
        if not self.RULE.recurrent or not chain:
            return True
        return chain[-1].end == position and PartId(chain[-1].key, STATE) in held

    def needed(self, chain: list[BlockHeader], position: int) -> list[list[PartId]]:
        """The parts to load of every block: no more than it takes."""
        first_seen = position - max((window - 1 for window in self.RULE.windows), default=0)
        parts = []
        for block in chain:
            extras = [SLIDING] if min(block.end, position) > max(0, first_seen) else []
            extras += [STATE] if self.RULE.recurrent and block is chain[-1] else []
            parts.append([block.id, *(PartId(block.key, kind) for kind in extras)])
        return parts

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        type(self).steps += 1
        assert len(self.index) == len(self.model)
        for one in self.seen.values():
            there = one.key in self.model
            assert (one.id in self.index) == self.index.knows(one.key) == there
            assert self.index.tenant(one.key) == (one.tenant if there else None)
            assert self.index.parent(one.key) == (one.parent if there else None)
            assert self.index.header(one.key) == (one if there else None)
            parts = {part for part in self.extras if part.key == one.key}
            assert set(self.index.parts(one.key)) == parts | ({one.id} if there else set())

    @invariant()
    def each_tenant_has_its_own(self) -> None:
        for parent in {ROOT, *(one.parent for one in self.seen.values())}:
            for keys in TENANTS:
                mine = [
                    one
                    for one in self.seen.values()
                    if one.parent == parent and one.tenant == keys.tenant
                ]
                there = {one.key for one in mine if one.key in self.model}
                left = {part.key for part in self.extras} & {one.key for one in mine} - there
                found = self.index.children(parent, keys.tenant)
                assert {one.key for one in found} == there
                strays = self.index.strays(parent, keys.tenant)
                assert {one.key for one in strays} == left
                assert self.index.goes_on(parent, keys.tenant) == bool(there or left)

    @invariant()
    def supersedes_what_the_model_would(self) -> None:
        for one in self.model.values():
            assert set(self.index.superseded(one)) == {
                other.key
                for other in self.model.values()
                if self.RULE.anywhere
                and (other.parent, other.tenant) == (one.parent, one.tenant)
                and other.kind is PartKind.TAIL
                and len(other.tokens) < len(one.tokens)
                and one.tokens[: len(other.tokens)] == other.tokens
            }


def prompt_has(prompt: Sequence[TokenId], block: BlockHeader) -> bool:
    """Whether a block's tokens stand in the prompt at the block's place."""
    return tuple(prompt[block.start : block.end]) == block.tokens


MODELS = [
    ResumeRule(),
    ResumeRule((3,)),
    ResumeRule((), recurrent=True),
    ResumeRule((2, 5), recurrent=True),
]


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_each_tenant_finds_what_a_search_from_end_to_end_does(model: ResumeRule) -> None:
    class Machine(Tenancy):
        RULE = model

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=110, stateful_step_count=30, deadline=None, derandomize=True
        ),
    )
    assert Machine.steps >= LEAST_STEPS / len(MODELS)

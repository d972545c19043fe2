import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semantic.domain.agent import (
    MAX_NAME_LENGTH,
    AgentId,
    AgentRecord,
    Branch,
    Recall,
    Segment,
    joined,
    recall,
    remember,
)
from semantic.domain.errors import InvalidRequestError
from semantic.domain.ids import DEFAULT_TENANT, Namespace, TenantId

ASKED = Segment("ask ", (1, 2))
SAID = Segment("say ", (3,))
MORE = Segment("more ", (4, 5))
OTHER = Segment("other ", (6,))


def record(*branches: Branch) -> AgentRecord:
    return AgentRecord(name="a", namespace="n", branches=branches, updated_at=1.0)


class TestName:
    @pytest.mark.parametrize("name", ["a", "Ada Lovelace", "a/b", "a..b", "🦜", "x" * 256, "ü"])
    def test_free_text_is_a_name(self, name: str) -> None:
        agent = AgentId.parse(name, field="agent")
        assert agent.name == name
        assert agent.key == hashlib.sha256(name.encode()).hexdigest()

    def test_space_around_a_name_does_not_count(self) -> None:
        assert AgentId.parse(" a\n", field="agent") == AgentId.parse("a", field="agent")

    def test_case_counts(self) -> None:
        assert AgentId.parse("Bob", field="f").key != AgentId.parse("bob", field="f").key

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("", "empty"),
            (" \t\n", "empty"),
            ("x" * (MAX_NAME_LENGTH + 1), "at most 256 characters, this one has 257"),
            ("a\nb", "printable"),
            ("a\0b", "printable"),
            ("a\x1b[31m", "printable"),
            ("\ud800", "printable"),
            ("a\u202eb", "printable"),
            ("../a", "../"),
            ("a/..", "../"),
            ("..", "../"),
            ("a\\..\\b", "../"),
        ],
    )
    def test_what_is_no_name_is_refused_with_its_field(self, name: str, reason: str) -> None:
        with pytest.raises(InvalidRequestError) as caught:
            AgentId.parse(name, field="X-Agent-ID")
        assert reason in str(caught.value)
        assert caught.value.field == "X-Agent-ID"

    def test_one_name_has_another_key_in_each_model(self) -> None:
        agent = AgentId.parse("a", field="f")
        here, there = agent.within(Namespace("1" * 64)), agent.within(Namespace("2" * 64))
        assert here == agent.within(Namespace("1" * 64))
        assert here.name == there.name == "a"
        assert len({agent.key, here.key, there.key}) == 3

    def test_one_name_is_another_agent_of_each_tenant(self) -> None:
        agent, namespace = AgentId.parse("a", field="f"), Namespace("1" * 64)
        ann, bea = (agent.within(namespace, TenantId(name)) for name in ("ann", "bea"))
        assert ann.name == bea.name == "a"
        assert len({agent.within(namespace).key, ann.key, bea.key}) == 3
        assert agent.within(namespace) == agent.within(namespace, DEFAULT_TENANT)

    @given(name=st.text(st.characters(codec=None, exclude_categories=())))
    def test_any_text_is_a_name_or_refused(self, name: str) -> None:
        try:
            agent = AgentId.parse(name, field="f")
        except InvalidRequestError:
            return
        assert AgentId.parse(agent.name, field="f") == agent


class TestBranch:
    def test_ids_are_those_of_all_segments(self) -> None:
        assert Branch((ASKED, SAID)).ids == (1, 2, 3)

    @pytest.mark.parametrize(
        ("rendered", "count"),
        [
            ("", 0),
            ("ask", 0),
            ("ask ", 1),
            ("ask say", 1),
            ("ask say ", 2),
            ("ask say more", 2),
            ("say ask ", 0),
        ],
    )
    def test_only_whole_segments_are_common(self, rendered: str, count: int) -> None:
        length = len("ask say "[: 4 * count])
        assert Branch((ASKED, SAID)).common(rendered) == (count, length)

    @pytest.mark.parametrize(
        ("rendered", "common"),
        [
            ("ask say more ", (3, 13)),
            ("ask <say>more ", (3, 14)),
            ("ask <say>other", (2, 9)),
            ("ask <say", (1, 4)),
            ("ask ", (1, 4)),
        ],
    )
    def test_a_segment_is_known_by_its_text_or_its_alias(
        self, rendered: str, common: tuple[int, int]
    ) -> None:
        said = replace(SAID, alias="<say>")
        assert Branch((ASKED, said, MORE)).common(rendered) == common

    def test_of_text_and_alias_the_longer_counts(self) -> None:
        said = Segment("say", (3,), alias="say.")
        assert Branch((said, MORE)).common("say.more ") == (2, 9)


class TestRecall:
    def test_nothing_is_known_of_a_new_conversation(self) -> None:
        assert recall((Branch((ASKED,)),), "hello") == Recall()
        assert recall((), "hello") == Recall()

    def test_the_longest_beginning_is_found(self) -> None:
        short, long = Branch((ASKED, OTHER)), Branch((ASKED, SAID, MORE))
        for branches in ((short, long), (long, short)):
            assert recall(branches, "ask say more and") == Recall(
                ids=(1, 2, 3, 4, 5), length=13, branch=long, segments=3
            )

    def test_a_part_of_a_branch_is_enough(self) -> None:
        branch = Branch((ASKED, SAID, MORE))
        found = recall((branch,), "ask say something else")
        assert found == Recall(ids=(1, 2, 3), length=8, branch=branch, segments=2)

    def test_the_newest_branch_wins_a_tie(self) -> None:
        older, newer = Branch((Segment("ask ", (9,)),)), Branch((ASKED,))
        assert recall((older, newer), "ask ").ids == (1, 2)

    def test_ids_of_generated_text_are_those_that_were_generated(self) -> None:
        unusual = Segment("say ", (30, 31, 32))
        assert recall((Branch((ASKED, unusual)),), "ask say ").ids == (1, 2, 30, 31, 32)


class TestRemember:
    def test_a_first_turn_makes_a_branch(self) -> None:
        after = remember(record(), Recall(), (ASKED, SAID), limit=8, now=2.0)
        assert after.branches == (Branch((ASKED, SAID)),)
        assert after.updated_at == 2.0
        assert (after.name, after.namespace) == ("a", "n")

    def test_a_continued_branch_is_replaced_and_newest(self) -> None:
        grown, other = Branch((ASKED, SAID)), Branch((OTHER,))
        before = record(grown, other)
        recalled = recall(before.branches, "ask say more ")
        after = remember(before, recalled, (MORE,), limit=8, now=2.0)
        assert after.branches == (other, Branch((ASKED, SAID, MORE)))

    def test_a_changed_history_starts_a_branch_and_keeps_the_old(self) -> None:
        old = Branch((ASKED, SAID))
        before = record(old)
        recalled = recall(before.branches, "ask other ")
        after = remember(before, recalled, (OTHER,), limit=8, now=2.0)
        assert after.branches == (old, Branch((ASKED, OTHER)))

    def test_the_same_turn_again_is_kept_once(self) -> None:
        branch = Branch((ASKED, SAID))
        before = record(branch, Branch((OTHER,)))
        recalled = Recall(ids=ASKED.ids, length=4, branch=branch, segments=1)
        after = remember(before, recalled, (SAID,), limit=8, now=2.0)
        assert after.branches == (Branch((OTHER,)), branch)

    def test_the_oldest_branches_go_first(self) -> None:
        before = record(Branch((ASKED,)), Branch((SAID,)))
        after = remember(before, Recall(), (OTHER,), limit=2, now=2.0)
        assert after.branches == (Branch((SAID,)), Branch((OTHER,)))

    def test_the_record_before_stays_as_it_was(self) -> None:
        before = record(Branch((ASKED,)))
        remember(before, Recall(), (OTHER,), limit=1, now=2.0)
        assert before == record(Branch((ASKED,)))


class TestJoining:
    OLD, NEW, BOTH = Branch((ASKED,)), Branch((OTHER,)), Branch((ASKED, SAID))

    def test_what_is_newer_comes_last_and_once(self) -> None:
        older, newer = record(self.OLD, self.BOTH), record(self.NEW, self.OLD)
        newer = replace(newer, updated_at=9.0)
        found = joined(older, newer, limit=8)
        assert found.branches == (self.BOTH, self.NEW, self.OLD)
        assert found.updated_at == 9.0

    def test_the_oldest_give_way(self) -> None:
        found = joined(record(self.OLD, self.BOTH), record(self.NEW), limit=2)
        assert found.branches == (self.BOTH, self.NEW)

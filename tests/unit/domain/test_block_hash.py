import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semantic.domain.block_hash import (
    block_key,
    full_blocks,
    root_key,
    token_bytes,
    tokens_from_bytes,
)
from semantic.domain.ids import Namespace

ROOT = root_key(Namespace("ns"))

token_lists = st.lists(st.integers(0, 2**32 - 1), max_size=40)


def test_the_root_is_derived_from_the_namespace() -> None:
    assert hashlib.sha256(b"semantic/block-chain/1\0ns").hexdigest() == ROOT
    assert root_key(Namespace("ns2")) != ROOT


def test_a_key_is_a_digest_of_parent_and_tokens() -> None:
    expected = hashlib.sha256(bytes.fromhex(ROOT) + b"\1\0\0\0\0\1\0\0").hexdigest()
    assert block_key(ROOT, [1, 256]) == expected


def test_keys_cover_the_whole_past() -> None:
    first, other = block_key(ROOT, [1]), block_key(ROOT, [2])
    assert block_key(first, [3]) != block_key(other, [3])


@given(left=token_lists, right=token_lists)
def test_different_tokens_have_different_keys(left: list[int], right: list[int]) -> None:
    assert (block_key(ROOT, left) == block_key(ROOT, right)) == (left == right)


@given(tokens=token_lists)
def test_token_bytes_can_be_read_back(tokens: list[int]) -> None:
    assert tokens_from_bytes(token_bytes(tokens)) == tuple(tokens)


@pytest.mark.parametrize("token", [-1, 2**32])
def test_ids_beyond_32_bits_are_refused(token: int) -> None:
    with pytest.raises(ValueError, match="32-bit"):
        token_bytes([token])


@pytest.mark.parametrize("length", [1, 2, 3, 5])
def test_half_an_id_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match=f"{length} bytes"):
        tokens_from_bytes(bytes(length))


def test_full_blocks_are_a_chain_that_leaves_the_tail_out() -> None:
    first = block_key(ROOT, [1, 2])
    second = block_key(first, [3, 4])
    assert list(full_blocks(ROOT, [1, 2, 3, 4, 5], 2)) == [(ROOT, first), (first, second)]


@pytest.mark.parametrize(("length", "blocks"), [(0, 0), (3, 0), (4, 1), (7, 1), (8, 2)])
def test_only_whole_blocks_are_full(length: int, blocks: int) -> None:
    assert len(list(full_blocks(ROOT, range(length), 4))) == blocks

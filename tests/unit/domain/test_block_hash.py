import hashlib
import hmac
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes.blocks import SECRET

from semantic.domain.block_hash import (
    PUBLIC_KEYS,
    block_key,
    root_key,
    tenant_keys,
    token_bytes,
    tokens_from_bytes,
)
from semantic.domain.ids import PUBLIC, Namespace, TenantId
from semantic.domain.store_secret import StoreSecret

ROOT = root_key(Namespace("ns"), SECRET)
OTHER_SECRET = StoreSecret(bytes(32))

token_lists = st.lists(st.integers(0, 2**32 - 1), max_size=40)


def test_the_root_is_derived_from_namespace_and_secret() -> None:
    message = b"semantic/block-chain/2\0ns"
    assert hmac.new(SECRET.value, message, "sha256").hexdigest() == ROOT
    assert root_key(Namespace("ns2"), SECRET) != ROOT
    assert root_key(Namespace("ns"), OTHER_SECRET) != ROOT


def test_a_tenants_salt_is_derived_from_its_id_and_the_secret() -> None:
    alice = tenant_keys(TenantId("alice"), SECRET)
    assert alice.salt == hmac.new(SECRET.value, b"semantic/tenant/1\0alice", "sha256").digest()
    assert tenant_keys(TenantId("bob"), SECRET).salt != alice.salt
    assert tenant_keys(TenantId("alice"), OTHER_SECRET).salt != alice.salt


def test_what_is_public_has_no_salt() -> None:
    assert tenant_keys(PUBLIC, SECRET) == PUBLIC_KEYS
    assert PUBLIC_KEYS.public
    assert PUBLIC_KEYS.salt == b""


def test_neither_secrets_nor_salts_are_shown() -> None:
    keys = tenant_keys(TenantId("alice"), SECRET)
    for secret in (SECRET.value, keys.salt):
        for form in (repr(secret)[2:-1], secret.hex()):
            assert form not in f"{SECRET!r} {SECRET} {keys!r}"


def test_a_key_is_a_digest_of_parent_and_tokens() -> None:
    expected = hashlib.sha256(bytes.fromhex(ROOT) + b"\1\0\0\0\0\1\0\0").hexdigest()
    assert block_key(ROOT, [1, 256]) == expected


def test_a_salt_comes_behind_the_tokens() -> None:
    expected = hashlib.sha256(bytes.fromhex(ROOT) + b"\1\0\0\0salt").hexdigest()
    assert block_key(ROOT, [1], b"salt") == expected


def test_keys_cover_the_whole_past() -> None:
    first, other = block_key(ROOT, [1]), block_key(ROOT, [2])
    assert block_key(first, [3]) != block_key(other, [3])


@given(left=token_lists, right=token_lists)
def test_different_tokens_have_different_keys(left: list[int], right: list[int]) -> None:
    assert (block_key(ROOT, left) == block_key(ROOT, right)) == (left == right)


@given(tokens=token_lists, names=st.lists(st.sampled_from("abc"), min_size=2, max_size=2))
def test_different_tenants_have_different_keys(tokens: list[int], names: Sequence[str]) -> None:
    one, other = (block_key(ROOT, tokens, tenant_keys(TenantId(n), SECRET).salt) for n in names)
    assert (one == other) == (names[0] == names[1])
    assert block_key(ROOT, tokens) != one


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


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_secret_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        StoreSecret(bytes(length))

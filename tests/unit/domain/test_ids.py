import pytest

from semantic.domain.ids import DEFAULT_TENANT, PUBLIC, tenant_id


@pytest.mark.parametrize("text", ["a", "acme-2", "under_score", "x" * 64, DEFAULT_TENANT, PUBLIC])
def test_a_tenants_id_is_short_and_plain(text: str) -> None:
    assert tenant_id(text) == text


@pytest.mark.parametrize("text", ["", "A", "a b", "a\n", "ä", "x" * 65, "../a"])
def test_what_is_no_tenants_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no tenant's id"):
        tenant_id(text)


def test_equal_ids_are_one_object() -> None:
    assert tenant_id("acme") is tenant_id("xacme"[1:])

from semantic.adapters.outbound.system.call_ids import LENGTH, random_call_id


def test_ids_are_letters_and_digits_and_new() -> None:
    ids = {random_call_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(len(one) == LENGTH and one.isascii() and one.isalnum() for one in ids)

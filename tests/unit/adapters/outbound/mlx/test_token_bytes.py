import pytest

from semantic.adapters.outbound.mlx.token_bytes import piece_bytes


@pytest.mark.parametrize(
    ("piece", "data"),
    [("Ġthe", b" the"), ("Ċ", b"\n"), ("Ã©", "é".encode()), ("Ã", b"\xc3"), ("Ń", b"\xad")],
)
def test_byte_level_letters_stand_for_bytes(piece: str, data: bytes) -> None:
    assert piece_bytes(piece, byte_level=True) == data


@pytest.mark.parametrize(
    ("piece", "data"),
    [("▁the", b" the"), ("<0xE2>", b"\xe2"), ("é", "é".encode()), ("<0xE2>x", b"<0xE2>x")],
)
def test_sentencepiece_writes_text_and_names_bytes(piece: str, data: bytes) -> None:
    assert piece_bytes(piece, byte_level=False) == data


def test_what_is_no_byte_of_a_byte_level_vocabulary_is_text() -> None:
    assert piece_bytes("日", byte_level=True) == "日".encode()

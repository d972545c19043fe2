"""The bytes that one entry of a vocabulary stands for, as its kind of tokenizer writes them."""

import re
from functools import cache

_BYTE_FALLBACK = re.compile(r"<0x([0-9A-F]{2})>")
_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
"""How SentencePiece writes a space."""
_PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
"""Bytes that stand for themselves in a byte-level vocabulary; the others' characters follow."""
_OTHERS_BEGIN = 0x100


def piece_bytes(piece: str, *, byte_level: bool) -> bytes:
    """Those of a vocabulary's entry that is text; `byte_level` is GPT-2's way to write bytes."""
    if byte_level:
        alphabet = _alphabet()
        return b"".join(
            bytes([alphabet[letter]]) if letter in alphabet else letter.encode() for letter in piece
        )
    if found := _BYTE_FALLBACK.fullmatch(piece):
        return bytes([int(found[1], 16)])
    return piece.replace(_SPACE, " ").encode()


@cache
def _alphabet() -> dict[str, int]:
    """The byte behind each letter (OpenAI's GPT-2, `bytes_to_unicode` in src/encoder.py)."""
    others = [code for code in range(0x100) if code not in _PRINTABLE]
    letters = {chr(code): code for code in _PRINTABLE}
    return letters | {chr(_OTHERS_BEGIN + place): code for place, code in enumerate(others)}

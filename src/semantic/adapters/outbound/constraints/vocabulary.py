"""A model's vocabulary as llguidance wants it: each id with its bytes, and which are special.

Built of bytes alone, so that every kind of tokenizer is served alike. Invariant: what is forced by
a grammar is split into tokens whose bytes make up exactly that text.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from llguidance import LLTokenizer, TokenizerWrapper

from semantic.domain.ids import TokenId
from semantic.ports.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """`special` are the ids that no text produces, by what they are written as."""

    tokenizer: LLTokenizer
    special: dict[str, TokenId]


def vocabulary(tokenizer: Tokenizer, size: int) -> Vocabulary:
    """That of a model with logits for ids below `size`; takes part of a second.

    Raises:
        ValueError: if nothing in it ends an answer.
    """
    ends = sorted(token for token in tokenizer.stop_tokens if token < size)
    if not ends:
        raise ValueError("no token of the model ends an answer")
    special = sorted({token for token in tokenizer.special_tokens if token < size}.union(ends))
    pieces = [tokenizer.token_bytes(TokenId(token)) for token in range(size)]
    split = _Splitter(tokenizer.encode, pieces, frozenset(special))
    made = LLTokenizer(TokenizerWrapper(_Described(pieces, special, ends[0], split)), size, ends)
    return Vocabulary(made, {pieces[token].decode(errors="replace"): token for token in special})


class _Splitter:
    """From text to tokens: as the tokenizer does it, where that gives the text back.

    Text makes no special tokens, even if it reads like one.
    """

    def __init__(
        self,
        encode: Callable[[str], Sequence[TokenId]],
        pieces: Sequence[bytes],
        special: frozenset[int],
    ) -> None:
        self._encode = encode
        self._pieces = pieces
        self._special = special
        self._ids: dict[bytes, int] = {}
        for token, piece in enumerate(pieces):
            if piece and token not in special:
                self._ids.setdefault(piece, token)
        self._longest = max(map(len, self._ids), default=1)

    def __call__(self, data: bytes) -> list[int]:
        try:
            found = list(self._encode(data.decode()))
        except UnicodeDecodeError:
            return self._greedily(data)
        # Some tokenizers begin every text with a space.
        same = b"".join(self._pieces[token] for token in found) == data
        return found if same and self._special.isdisjoint(found) else self._greedily(data)

    def _greedily(self, data: bytes) -> list[int]:
        """The longest token that fits, again and again; no tokens if some byte has none."""
        found = []
        start = 0
        while start < len(data):
            for end in range(min(len(data), start + self._longest), start, -1):
                token = self._ids.get(data[start:end])
                if token is not None:
                    found.append(token)
                    start = end
                    break
            else:
                return []
        return found


@dataclass(frozen=True, slots=True)
class _Described:
    """What llguidance asks of a tokenizer."""

    tokens: Sequence[bytes]
    special_token_ids: Sequence[int]
    eos_token_id: int
    split: Callable[[bytes], list[int]]
    bos_token_id: int | None = None

    def __call__(self, data: bytes) -> list[int]:
        return self.split(data)

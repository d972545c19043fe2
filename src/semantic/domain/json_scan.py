"""Where a JSON object ends, read in pieces. Brackets are counted; it may be invalid inside."""


class ObjectScan:
    """The way through one object. Begins before its first bracket."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._escaped = False

    def end(self, text: str) -> int | None:
        """How many characters of `text` are still the object's; None if it goes on after them."""
        for at, letter in enumerate(text):
            if self._in_string:
                self._within_string(letter)
            elif self._closes(letter):
                return at + 1
        return None

    def _within_string(self, letter: str) -> None:
        if self._escaped:
            self._escaped = False
        elif letter == "\\":
            self._escaped = True
        elif letter == '"':
            self._in_string = False

    def _closes(self, letter: str) -> bool:
        if letter == '"':
            self._in_string = True
        elif letter in "{[":
            self._depth += 1
        elif letter in "}]":
            self._depth -= 1
            return self._depth <= 0
        return False

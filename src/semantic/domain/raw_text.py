"""The part of a raw answer that has come and is not read yet."""


class RawText:
    """`text` begins at `position`, counted in characters of the raw answer.

    The answer was cut off in what begins at `untold`, which says nothing without its rest.
    """

    def __init__(self) -> None:
        self.text = ""
        self.position = 0
        self.untold: int | None = None

    def add(self, text: str) -> None:
        """More has come."""
        self.text += text

    def take(self, length: int) -> str:
        """The next characters, which are read now."""
        taken, self.text = self.text[:length], self.text[length:]
        self.position += len(taken)
        return taken

    def drop(self) -> None:
        """All that is there has been read."""
        self.take(len(self.text))

    def cut_off(self) -> None:
        """What is there says nothing, and its rest will not come."""
        if self.text.strip():
            self.untold = self.position
        self.drop()

    def skip_blank(self) -> bool:
        """Pass over blank space; whether anything follows."""
        self.take(len(self.text) - len(self.text.lstrip()))
        return bool(self.text)

"""What the documentation says is held against the repository: part of `make docs`.

Links lead to something, Python examples parse, `make` targets and named files exist, and
docs/structure.md has a line for every package. Links to other sites are not followed.
"""

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from markdown_it import MarkdownIt
from markdown_it.token import Token

_FILE = re.compile(r"[\w.-]+(?:/[\w.-]+)*/[\w-]+\.(?:py|toml|md|yml|txt|svg)")
_MAKE = re.compile(r"\bmake ([a-z][a-z0-9-]*)")
_FOLDERS = ("docs", "project/architecture", "project/experiments")
_ELSEWHERE = re.compile(r"[a-z]+:")


@dataclass(frozen=True, slots=True)
class Document:
    """A Markdown file and what it consists of, inline parts included."""

    path: Path
    tokens: tuple[Token, ...]

    @classmethod
    def read(cls, path: Path) -> "Document":
        """Parse a file."""
        blocks = MarkdownIt().parse(path.read_text(encoding="utf-8"))
        inline = [child for block in blocks for child in block.children or ()]
        return cls(path, (*blocks, *inline))

    @property
    def links(self) -> Iterator[str]:
        """Where links and pictures lead."""
        for token in self.tokens:
            target = token.attrs.get("href") or token.attrs.get("src")
            if target:
                yield unquote(str(target))

    @property
    def code(self) -> Iterator[Token]:
        """Code, fenced and inline."""
        return (token for token in self.tokens if token.type in ("fence", "code_inline"))

    @property
    def anchors(self) -> frozenset[str]:
        """What a link's fragment may name, as forges derive it from headings."""
        pairs = zip(self.tokens, self.tokens[1:], strict=False)
        headings = [text.content for mark, text in pairs if mark.type == "heading_open"]
        bare = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
        return frozenset(heading.replace(" ", "-") for heading in bare)


class Repository:
    """The files that documentation speaks of."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._source = root / "src" / "semantic"
        makefile = (root / "Makefile").read_text(encoding="utf-8")
        self._targets = frozenset(re.findall(r"^([a-z][a-z0-9-]*):", makefile, re.MULTILINE))

    def problems(self) -> list[str]:
        """Everything that is said and is not so; empty if all is well."""
        found = []
        for path in self._documents():
            document = Document.read(path)
            name = path.relative_to(self._root)
            for check in (self._dead_links, self._broken_examples, self._wrong_names):
                found += [f"{name}: {problem}" for problem in check(document)]
        return found + [f"docs/structure.md: no line for {name}" for name in self._untold()]

    def _documents(self) -> list[Path]:
        # Templates name files that are still to be written.
        folders = [self._root / name for name in _FOLDERS]
        below = [path for folder in folders for path in folder.rglob("*.md")]
        return sorted([*self._root.glob("*.md"), *below])

    def _dead_links(self, document: Document) -> Iterator[str]:
        for link in document.links:
            path, _, fragment = link.partition("#")
            if _ELSEWHERE.match(link):
                continue
            target = document.path.parent / path if path else document.path
            if not target.exists():
                yield f"leads to {path}, which does not exist"
            elif fragment and fragment not in Document.read(target).anchors:
                yield f"leads to #{fragment}, which no heading in {target.name} has"

    def _broken_examples(self, document: Document) -> Iterator[str]:
        for token in document.code:
            if token.info == "python":
                try:
                    ast.parse(token.content)
                except SyntaxError as error:
                    yield f"an example does not parse: {error}"

    def _wrong_names(self, document: Document) -> Iterator[str]:
        for token in document.code:
            for target in _MAKE.findall(token.content):
                if target not in self._targets:
                    yield f"`make {target}` is not a target"
            inline = token.type == "code_inline" and _FILE.fullmatch(token.content)
            if inline and not self._exists(token.content):
                yield f"{token.content} does not exist"

    def _exists(self, name: str) -> bool:
        return any((folder / name).exists() for folder in (self._root, self._source))

    def _untold(self) -> Iterator[str]:
        text = (self._root / "docs" / "structure.md").read_text(encoding="utf-8")
        for package in sorted(self._source.rglob("*/__init__.py")):
            name = str(package.parent.relative_to(self._source))
            if f"`{name}`" not in text:
                yield name


def main() -> int:
    """Judge the repository in a folder: the one given, or this one."""
    problems = Repository(Path(sys.argv[1] if len(sys.argv) > 1 else ".")).problems()
    print("\n".join(problems) or "documents: every link, example and name is good")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

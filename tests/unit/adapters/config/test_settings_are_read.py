"""No dead knobs: every setting is read by some code, or it is no setting."""

import ast
from collections.abc import Iterator
from pathlib import Path

import semantic
from semantic.adapters.config.settings import Settings

ROOT = Path(semantic.__file__).parent
SECTIONS = {
    name: field.annotation.__name__
    for name, field in Settings.model_fields.items()
    if field.annotation is not None
}
CLASSES = {section_class: name for name, section_class in SECTIONS.items()}


def settings() -> set[str]:
    return {
        f"{section}.{key}"
        for section, field in Settings.model_fields.items()
        if field.annotation is not None
        for key in field.annotation.model_fields
    }


def read_in(source: str) -> set[str]:
    """The settings that a module reads: `x.section.key`, or `y.key` where `y` is a section."""
    tree = ast.parse(source)
    aliases = dict(_aliases(tree))
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            section = _section(node.value, aliases)
            if section:
                found.add(f"{section}.{node.attr}")
    for definition in ast.walk(tree):
        if isinstance(definition, ast.ClassDef) and definition.name in CLASSES:
            found |= {
                f"{CLASSES[definition.name]}.{node.attr}"
                for node in ast.walk(definition)
                if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "self"
            }
    return found


def _aliases(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Names that stand for a section: assigned from one, or annotated as one."""
    for node in ast.walk(tree):
        match node:
            case ast.Assign(targets=[ast.Name(name)], value=ast.Attribute(attr=section)):
                if section in SECTIONS:
                    yield name, section
            case ast.arg(arg=name, annotation=ast.Name(id=annotation)) if annotation in CLASSES:
                yield name, CLASSES[annotation]


def _section(node: ast.expr, aliases: dict[str, str]) -> str | None:
    match node:
        case ast.Attribute(attr=section) if section in SECTIONS:
            return section
        case ast.Name(name):
            return aliases.get(name)
    return None


def test_every_setting_is_read() -> None:
    read = set()
    for module in ROOT.rglob("*.py"):
        read |= read_in(module.read_text())
    assert settings() - read == set()


def test_a_dead_setting_would_be_found() -> None:
    source = """
def build(settings, http: ServerSettings):
    engine = settings.engine
    settings.store.hot_bytes = 1
    return settings.server.host, http.port, engine.max_batch, other.max_waiting
class StoreSettings:
    def path(self):
        return self.dir
"""
    assert read_in(source) == {"server.host", "server.port", "engine.max_batch", "store.dir"}

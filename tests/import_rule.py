"""The one rule of the house, read off the source: imports point down.

Nothing is imported here: every file is parsed, so that a forbidden import is found whether or not
its library is installed and whether or not the line ever runs; `import_module("literal")` counts as
an import. `violations(root)` returns one line for each offence in the tree under `root`
(`src/xloss` and `conformance`).
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

# From the ground up. A room may import itself and every room below it; rooms of one layer may
# import each other. `__init__` is the package's own: it collects public names for its users.
LAYERS = (
    {"_inspect"},
    {"_xp"},
    {"_foreign", "_host_data"},
    {"capabilities"},
    {"core"},
    {"engines"},
    {"backends"},
    {"losses", "ops", "gradients", "evaluation", "diagnose"},
    {"__init__"},
    {"adapters"},
    {"cli"},
)
HEIGHT = {room: height for height, rooms in enumerate(LAYERS) for room in rooms}

# Array libraries and whatever else comes from outside: lazily, in these rooms.
LAZY_ROOMS = {"backends", "engines", "cli"}
# Of these rooms' files each is loaded by itself, when it is needed.
LOADED_BY_FILE = {"adapters", "backends", "engines"}
# ml_dtypes gives NumPy its 16-bit floats, which `_xp` has to know.
LAZY_MODULES = {"ml_dtypes": {"_xp"}}
# What a command line is made of is no array library: anywhere in cli, which nobody else imports.
CLI_LIBRARIES = {"click", "rich", "safetensors", "typer"}
# The judge shares nothing with what it judges: beside the standard library and its own package it
# has only the arithmetic of many digits.
ORACLE_LIBRARIES = {"conformance", "mpmath", "xloss_conformance"}


@dataclass(frozen=True)
class Import:
    """One imported module (`name` None) or one name taken from it."""

    module: str
    name: str | None
    line: int
    lazy: bool  # inside a function: runs when called, not when its file is imported
    typing: bool  # under `if TYPE_CHECKING:`: never runs

    @property
    def top(self) -> str:
        return self.module.partition(".")[0]


@dataclass
class Module:
    """A parsed file: its dotted name, its imports, and the attributes it reads from `xloss`."""

    dotted: str
    path: str
    package: str
    imports: list[Import] = field(default_factory=list)
    attributes: list[tuple[str, int]] = field(default_factory=list)
    all: set[str] = field(default_factory=set)

    @property
    def room(self) -> str:
        parts = self.dotted.split(".")
        room = parts[1] if len(parts) > 1 else "__init__"
        return "cli" if room == "__main__" else room


class _Reader(ast.NodeVisitor):
    def __init__(self, module: Module) -> None:
        self.module = module
        self.functions = 0
        self.typing = False
        self.aliases: set[str] = set()  # what `xloss` is called in this file

    def add(self, target: str, name: str | None, line: int) -> None:
        entry = Import(target, name, line, self.functions > 0, self.typing)
        self.module.imports.append(entry)

    def absolute(self, level: int, target: str) -> str:
        if not level:
            return target
        parts = self.module.package.split(".")
        return ".".join([*parts[: len(parts) - level + 1], *filter(None, [target])])

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self.add(alias.name, None, node.lineno)
            if alias.name == "xloss" or (alias.name.startswith("xloss.") and not alias.asname):
                self.aliases.add(alias.asname or "xloss")

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            self.add(self.absolute(node.level, node.module or ""), alias.name, node.lineno)

    def visit_Call(self, node: ast.Call) -> None:
        function = node.func
        called = getattr(function, "attr", None) or getattr(function, "id", None)
        if called in {"import_module", "__import__"} and node.args:
            first = node.args[0]
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                target = first.value.lstrip(".")
                level = len(first.value) - len(target)
                self.add(self.absolute(level, target), None, node.lineno)
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if isinstance(node.value, ast.Name) and node.value.id in self.aliases:
            self.module.attributes.append((node.attr, node.lineno))
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign | ast.AugAssign) -> None:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        if not self.functions and any(getattr(t, "id", None) == "__all__" for t in targets):
            for part in ast.walk(node.value):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    self.module.all.add(part.value)
        self.generic_visit(node)

    visit_AugAssign = visit_Assign

    def visit_If(self, node: ast.If) -> None:
        test = getattr(node.test, "attr", None) or getattr(node.test, "id", None)
        outer, self.typing = self.typing, self.typing or test == "TYPE_CHECKING"
        for child in node.body:
            self.visit(child)
        self.typing = outer
        for child in [node.test, *node.orelse]:
            self.visit(child)

    def _function(self, node: ast.AST) -> None:
        self.functions += 1
        self.generic_visit(node)
        self.functions -= 1

    visit_FunctionDef = visit_AsyncFunctionDef = visit_Lambda = _function


def read(folder: Path, root: Path) -> dict[str, Module]:
    """Every Python file under `folder`, by its dotted name as seen from `folder`'s parent."""
    modules = {}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder.parent).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        parts = parts[:-1] if is_package else parts
        package = ".".join(parts if is_package else parts[:-1])
        module = Module(".".join(parts), path.relative_to(root).as_posix(), package)
        _Reader(module).visit(ast.parse(path.read_text(encoding="utf-8"), str(path)))
        modules[module.dotted] = module
    return modules


def target(item: Import, modules: dict[str, Module]) -> str:
    """The module that the import loads: `from a import b` is a.b if that is a module, else a."""
    whole = f"{item.module}.{item.name}"
    return whole if item.name and whole in modules else item.module


def violations(root: Path) -> list[str]:
    """Every offence against the rule in the tree under `root`, as `path:line: what`."""
    source = read(root / "src" / "xloss", root)
    public = source["xloss"].all if "xloss" in source else set()
    found = [*_rooms(source), *_libraries(source), *_cycles(source), *_adapters(source, public)]
    for module in read(root / "conformance", root).values():
        found += _conformance(module, public)
    return sorted(found)


def _rooms(modules: dict[str, Module]) -> Iterator[str]:
    for module in modules.values():
        if module.room not in HEIGHT:
            yield f"{module.path}:1: {module.room} is no room of the house"
            continue
        for item in module.imports:
            if item.top != "xloss":
                continue
            loaded = target(item, modules)
            room = Module(loaded, "", "").room
            where = f"{module.path}:{item.line}: {module.room} imports {loaded}"
            if room not in HEIGHT:
                yield f"{where}, which is no room of the house"
            elif module.room == "__init__":
                taken = [*loaded.split("."), item.name or ""]
                if any(part.startswith("_") for part in taken):
                    yield f"{where}: __init__ imports public names only ({item.name or loaded})"
                elif HEIGHT[room] > HEIGHT["__init__"]:
                    yield f"{where}: imports point down"
            elif HEIGHT[room] > HEIGHT[module.room]:
                yield f"{where}: imports point down"


def _libraries(modules: dict[str, Module]) -> Iterator[str]:
    eager = _eagerly_loaded(modules)
    for module in modules.values():
        for item in module.imports:
            where = f"{module.path}:{item.line}: {module.room} imports {item.module}"
            if item.top in {"xloss", "numpy"} or item.top in sys.stdlib_module_names:
                continue
            if item.top == "array_api_compat":
                if module.room != "_inspect":
                    yield f"{where}: array_api_compat belongs to _inspect alone"
            elif item.top == "xloss_conformance":
                if module.room != "cli" or not item.lazy:
                    yield f"{where}: only cli imports the conformance suite, inside a function"
            elif item.top in CLI_LIBRARIES:
                if module.room != "cli":
                    yield f"{where}: what makes a command line belongs to cli"
            elif module.room == "adapters":
                if item.top != module.dotted.rpartition(".")[2]:
                    yield f"{where}: an adapter imports the library of its own name alone"
            elif not item.typing:
                if module.room not in LAZY_ROOMS | LAZY_MODULES.get(item.top, set()):
                    yield f"{where}: a library is imported in backends, engines or cli only"
                elif not item.lazy and module.dotted in eager:
                    yield f"{where} eagerly: a library is imported lazily"


def _eagerly_loaded(modules: dict[str, Module]) -> set[str]:
    """What is loaded before any function is called, whichever part of the package is imported.

    A file in adapters/, backends/ or engines/ that nobody loads so is itself lazy: it may import
    its library at its top.
    """

    def waits(module: Module) -> bool:
        return module.room in LOADED_BY_FILE and module.dotted.count(".") > 1

    loaded: set[str] = set()
    queue = [name for name, module in modules.items() if not waits(module)]
    while queue:
        name = queue.pop()
        if name not in modules or name in loaded:
            continue
        loaded.add(name)
        runs = [i for i in modules[name].imports if not i.lazy and not i.typing]
        queue += [target(item, modules) for item in runs]
        queue.append(name.rpartition(".")[0])
    return loaded


def _cycles(modules: dict[str, Module]) -> Iterator[str]:
    """Cycles within a layer: one between layers has an import that points up, reported as such."""
    edges: dict[str, set[str]] = {}
    for name, module in modules.items():
        loads = {target(item, modules) for item in module.imports if not item.typing}
        height = HEIGHT.get(module.room)
        same = {other for other in loads if other in modules}
        edges[name] = {other for other in same if HEIGHT.get(modules[other].room) == height}
    done: set[str] = set()

    def walk(name: str, path: list[str]) -> Iterator[str]:
        if name in path:
            cycle = [*path[path.index(name) :], name]
            yield f"{modules[name].path}:1: import cycle {' -> '.join(cycle)}"
        elif name not in done:
            for other in sorted(edges[name]):
                yield from walk(other, [*path, name])
            done.add(name)

    for name in sorted(edges):
        yield from walk(name, [])


def _adapters(modules: dict[str, Module], public: set[str]) -> Iterator[str]:
    """An adapter is written with what every user has: xloss's public names."""
    for module in modules.values():
        if module.room == "adapters":
            yield from _public_only(module, public, "an adapter")


def _conformance(module: Module, public: set[str]) -> Iterator[str]:
    oracle = "oracle" in module.dotted.split(".")
    for item in module.imports:
        where = f"{module.path}:{item.line}:"
        if oracle and item.top not in ORACLE_LIBRARIES | sys.stdlib_module_names:
            yield f"{where} the oracle imports {item.module}"
    yield from _public_only(module, public, "conformance")


def _public_only(module: Module, public: set[str], who: str) -> Iterator[str]:
    for item in module.imports:
        where = f"{module.path}:{item.line}:"
        if item.top != "xloss":
            continue
        if item.module != "xloss":
            yield f"{where} {who} imports {item.module}, a room of xloss"
        elif item.name and item.name not in public | {"*"}:
            yield f"{where} {who} takes {item.name}, which xloss does not make public"
    for name, line in module.attributes:
        if name not in public and not name.startswith("__"):
            yield f"{module.path}:{line}: {who} uses xloss.{name}, which is not public"

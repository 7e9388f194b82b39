"""Who may import whom. `python tests/contract/test_imports.py` prints the picture as Mermaid."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ("gateway", "auth", "coach", "rag", "worker", "admin")
LIBRARIES = ("common", "devstack", "standins")
# The one module of common that only tests load.
TEST_MODULE = "common/testing.py"

# A newcomer who has read one service finds their way in the others.
IN_EVERY_SERVICE = {"__init__.py", "app.py", "py.typed", "settings.py"}
IN_EVERY_SERVICE_WITH_TABLES = IN_EVERY_SERVICE | {"api.py", "deps.py", "migrations", "models.py"}


def folder(package: str) -> Path:
    """Where the code of a package is."""
    return ROOT / ("services" if package in SERVICES else "libs") / package / package


def imports(module: Path) -> Iterator[str]:
    """Top-level packages that a module names in an import, inside functions too."""
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def picture() -> dict[str, set[str]]:
    """Our packages that each of our packages imports."""
    ours = {*SERVICES, *LIBRARIES}
    return {
        package: {
            imported
            for module in folder(package).rglob("*.py")
            if not module.as_posix().endswith(TEST_MODULE)
            for imported in imports(module)
        }
        & ours - {package}
        for package in (*SERVICES, *LIBRARIES)
    }


def mermaid() -> str:
    """The picture, for the documentation."""
    arrows = [f"    {package} --> {imported}" for package, found in picture().items() for imported in sorted(found)]
    alone = [f"    {package}" for package, found in picture().items() if not found]
    return "\n".join(["flowchart TD", *arrows, *alone])


def test_a_service_imports_common_and_nothing_else_of_ours() -> None:
    assert {service: picture()[service] for service in SERVICES} == {service: {"common"} for service in SERVICES}


def test_libraries_import_nothing_of_ours() -> None:
    assert {library: picture()[library] for library in LIBRARIES} == {library: set() for library in LIBRARIES}


def test_every_service_has_the_same_files() -> None:
    for service in SERVICES:
        expected = IN_EVERY_SERVICE if service == "gateway" else IN_EVERY_SERVICE_WITH_TABLES
        assert expected - {entry.name for entry in folder(service).iterdir()} == set(), service
        assert {entry.name for entry in folder(service).parent.iterdir()} >= {"pyproject.toml", "tests", service}


def test_every_module_says_what_it_is_for_in_one_line() -> None:
    silent = [
        module.relative_to(ROOT).as_posix()
        for package in (*SERVICES, *LIBRARIES)
        for module in folder(package).rglob("*.py")
        if "migrations" not in module.parts and not ast.get_docstring(ast.parse(module.read_text(encoding="utf-8")))
    ]
    assert silent == []


def test_the_walk_sees_an_import_inside_a_function(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text("import os\ndef f():\n    from rag.deep import x\n    import coach.ask as y\nfrom . import z\n")
    assert list(imports(module)) == ["os", "rag", "coach"]


if __name__ == "__main__":
    sys.stdout.write(mermaid() + "\n")

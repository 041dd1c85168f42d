"""The room plan: who may import whom, how long a file may be, what it may not be called."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAX_LINES = 400
OURS = ("compress", "export", "recipes", "benchmarks", "tests")

#: What a file may import besides the standard library and its own package; the first pattern that fits decides.
ROOMS: tuple[tuple[str, frozenset[str]], ...] = (
    ("compress/fixed.py", frozenset({"numpy"})),
    ("compress/layers/*", frozenset({"brevitas", "numpy", "torch"})),
    ("compress/*", frozenset({"numpy", "torch", "tqdm"})),
    ("export/frontends/*", frozenset({"compress", "numpy", "torch"})),
    ("export/*", frozenset({"compress.columns", "compress.fixed", "jinja2", "numpy"})),
    ("recipes/simulation/*", frozenset({"awkward", "fastjet", "numba", "numpy", "pythia8mc", "tqdm", "vector"})),
    (
        "recipes/search/*",
        frozenset({"compress", "distributed", "export", "matplotlib", "numpy", "optuna", "torch", "tqdm"}),
    ),
    ("recipes/fuzz/*", frozenset({"brevitas", "compress", "export", "numpy", "torch", "tqdm"})),
    ("recipes/*", frozenset({"compress", "export", "numpy", "sklearn", "torch"})),
)
_BAD_NAME = re.compile(r"(^|_)(utils?|helpers?|misc|new|old|v\d+)(_|$)")


def sources() -> list[Path]:
    folders = [ROOT / name for name in (*OURS, "hls_lib")]
    kinds = (".py", ".h", ".cpp", ".j2")
    return sorted(path for folder in folders for path in folder.rglob("*") if path.suffix in kinds)


def modules(*packages: str) -> list[Path]:
    return [path for path in sources() if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in packages]


def runtime_imports(tree: ast.AST) -> set[str]:
    """Every module imported anywhere in ``tree``, as written; what only type checkers see is left out."""
    found: set[str] = set()
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, "imports are absolute here"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        found |= runtime_imports(node)
    return found


def foreign(path: Path) -> set[str]:
    """Imports of ``path`` from outside the standard library and its own package."""
    own = path.relative_to(ROOT).parts[0]
    names = runtime_imports(ast.parse(path.read_text(encoding="utf-8")))
    return {name for name in names if name.split(".")[0] not in (*sys.stdlib_module_names, "__future__", own)}


def strangers(path: Path) -> set[str]:
    """What ``path`` imports and its room has no door for."""
    place = path.relative_to(ROOT).as_posix()
    allowed = next(names for pattern, names in ROOMS if fnmatch(place, pattern))
    return {name for name in foreign(path) if not any(f"{name}.".startswith(f"{door}.") for door in allowed)}


@pytest.mark.parametrize("path", modules("compress", "export", "recipes"), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_imports_only_what_its_room_may(path: Path) -> None:
    assert strangers(path) == set()


def test_compress_fixed_stands_on_numpy_alone() -> None:
    names = runtime_imports(ast.parse((ROOT / "compress" / "fixed.py").read_text(encoding="utf-8")))
    assert not [name for name in names if name.split(".")[0] in OURS]


def test_nothing_imports_tests_or_benchmarks() -> None:
    for path in modules("compress", "export", "recipes", "benchmarks"):
        assert not [name for name in foreign(path) if name.split(".")[0] in ("tests", "benchmarks")], path


def test_the_rules_can_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    (tmp_path / "export").mkdir()
    path = tmp_path / "export" / "ops.py"
    path.write_text(
        "import numpy, os\nfrom compress.fixed import cast\n"
        "def lower():\n    from compress.mask import Mask\n    import torch.fx\n"
    )
    assert strangers(path) == {"compress.mask.Mask", "torch.fx"}


def test_the_hardware_side_works_without_torch() -> None:
    program = (
        "import sys; sys.modules.update(torch=None, brevitas=None)\n"
        "import export.ir, export.ops, export.passes, export.backend, export.backends, export.emulation.emulator"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_files_say_one_thing() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in sources()}
    assert {name: lines for name, lines in lengths.items() if lines > MAX_LINES} == {}


def test_names_are_nouns() -> None:
    parts = {part for path in sources() for part in path.relative_to(ROOT).with_suffix("").parts}
    assert {part for part in parts if _BAD_NAME.search(part)} == set()


def test_the_kernel_library_holds_no_python() -> None:
    assert [path for path in sources() if path.is_relative_to(ROOT / "hls_lib") and path.suffix == ".py"] == []


def test_no_function_of_a_package_shares_its_name_with_a_module() -> None:
    """Importing the module would put it in the function's place."""
    for package in ("compress", "export", "recipes"):
        tree = ast.parse((ROOT / package / "__init__.py").read_text(encoding="utf-8"))
        functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert functions.isdisjoint(path.stem for path in (ROOT / package).iterdir())

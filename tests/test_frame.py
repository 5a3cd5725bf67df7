"""The house itself: the doors fit, imports point down, the code stays small enough to be read in an evening."""

from __future__ import annotations

import ast
import inspect
import io
import re
import statistics
import subprocess
import sys
import textwrap
import tokenize
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from dreamer_helpers.config import preset

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "dreamer_helpers"
FLOORS = {
    1: ("errors", "symlog", "distributions", "replay", "config", "device", "fast"),
    2: ("nets", "envs", "optim"),
    3: ("world_model", "actor_critic", "variants", "checkpoint"),
    4: ("train",),
}
BESIDE = {"__init__", "worlds", "plots", "video", "dreams", "bounds", "command_line", "demos"}
ALGORITHM = [name for names in FLOORS.values() for name in names]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def tracked() -> list[Path]:
    """All text files of the project that git knows."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    paths = [ROOT / name for name in names.split("\0") if name]
    return [path for path in paths if path.is_file() and path.suffix not in (".npz", ".png", ".gif", ".safetensors")]


# -------------------------------------------------------------------------------------------------- doors


def test_environment_yml_leads_to_pyproject() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *conda, pip = environment["dependencies"]
    assert [re.split("[<>=]", name)[0] for name in conda] == ["python", "pip"]
    assert conda[0].removeprefix("python") == PROJECT["requires-python"]
    (line,) = pip["pip"]
    extras = re.fullmatch(r"-e \.\[([\w,]+)\]", line)
    assert extras is not None
    assert set(extras[1].split(",")) <= set(PROJECT["optional-dependencies"])


def test_constraints_pin_every_dependency() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {line.split("==")[0].lower() for line in lines if "==" in line}
    needed = (
        PROJECT["dependencies"] + PROJECT["optional-dependencies"]["lab"] + PROJECT["optional-dependencies"]["test"]
    )
    assert {re.split("[<>=]", name)[0].lower() for name in needed} <= pinned


@pytest.mark.parametrize("target", ["setup", "lab", "test", "check", "notebooks", "fresh"])
def test_make_has_the_target(target: str) -> None:
    command = ["make", "-n", "PYTHON=" + sys.executable, target]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode == 0


def test_readme_links_lead_somewhere() -> None:
    for page in [path for path in tracked() if path.suffix == ".md"]:
        for link in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
            if "://" not in link:
                assert (page.parent / link).exists(), f"{page.name} links to {link}"


# --------------------------------------------------------------------------------------------------- code


def imports(path: Path) -> set[str]:
    """Modules of the package that a file imports at run time, by their first name below the package."""
    found = set()
    for node in _run_time_nodes(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "dreamer_helpers":
            below = (node.module or "").split(".")[1:]
            found |= {below[0]} if below else {alias.name for alias in node.names}
    return found


def _run_time_nodes(tree: ast.AST) -> list[ast.AST]:
    """All nodes but those under ``if TYPE_CHECKING`` or ``if __name__ ...``."""
    nodes = []
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.If) and re.match("TYPE_CHECKING|__name__", ast.unparse(child.test)):
            continue
        nodes += [child, *_run_time_nodes(child)]
    return nodes


def test_every_module_has_a_floor_and_imports_point_down() -> None:
    floor = {name: number for number, names in FLOORS.items() for name in names}
    assert {path.stem for path in PACKAGE.glob("*.py")} - BESIDE == set(floor)
    for name in floor:
        used = imports(PACKAGE / f"{name}.py")
        assert used <= set(floor), f"{name} imports {used - set(floor)}, which belongs to the notebooks"
        above = {other for other in used if floor[other] > floor[name]}
        assert not above, f"{name} imports {above} from a floor above"


def code_lines(source: str) -> int:
    """Lines that hold code: no blank ones, no comments, no docstrings."""
    idle = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in idle:
            lines |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines -= set(range(node.lineno, node.end_lineno + 1))
    return len(lines)


def test_the_algorithm_can_be_read_in_an_evening() -> None:
    lines = {name: code_lines((PACKAGE / f"{name}.py").read_text()) for name in ALGORITHM}
    assert sum(lines.values()) - sum(lines[name] for name in ("variants", "checkpoint", "fast")) < 2000, lines
    assert sum(lines.values()) < 2600, lines


def test_functions_are_short() -> None:
    lengths = {}
    for name in [*ALGORITHM, "worlds"]:
        source = (PACKAGE / f"{name}.py").read_text()
        lines = source.splitlines(keepends=True)
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef):
                lengths[f"{name}.{node.name}"] = code_lines(
                    textwrap.dedent("".join(lines[node.lineno - 1 : node.end_lineno]))
                )
    ordered = sorted(lengths.values())
    assert statistics.median(ordered) < 12
    assert ordered[int(0.9 * len(ordered))] < 30
    assert ordered[-1] <= 60, max(lengths, key=lambda key: lengths[key])


@pytest.mark.parametrize("name", [*ALGORITHM, "worlds"])
def test_public_names_have_docstrings(name: str) -> None:
    module = import_module(f"dreamer_helpers.{name}")
    assert module.__doc__
    for key, value in vars(module).items():
        if key.startswith("_") or getattr(value, "__module__", None) != module.__name__ or not callable(value):
            continue
        assert value.__doc__, f"{name}.{key} has no docstring"
        if inspect.isclass(value):
            for method, function in vars(value).items():
                if inspect.isfunction(function) and not method.startswith("_") and method != "forward":
                    inherited = any(getattr(getattr(b, method, None), "__doc__", None) for b in value.__mro__)
                    assert inherited, f"{name}.{key}.{method} has no docstring"


def test_importing_the_package_loads_nothing_heavy() -> None:
    check = "import sys, dreamer_helpers; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize("variants", [(), ("three_adams",)])
def test_a_training_does_not_import_the_compiler(variants: tuple[str, ...], tmp_path: Path) -> None:
    check = (
        "import sys; from dreamer_helpers.train import train; from dreamer_helpers.config import preset;"
        "from dreamer_helpers.device import set_threads; set_threads();"
        f"config = preset('cpu', batch_size=4, train_ratio=8.0, variants={variants});"
        f"updates = train(config, 'CartPole-v1', 200, logdir={str(tmp_path)!r}, progress_bar=False).updates;"
        "sys.exit('torch._dynamo' in sys.modules or not updates)"
    )
    subprocess.run([sys.executable, "-c", check], check=True, cwd=ROOT)


def test_the_project_speaks_of_itself_alone() -> None:
    """No path of one machine, no address of a package registry. The words are cut so that this file holds none."""
    forbidden = re.compile(
        "|".join(["pypi" + r"\.org", "python" + "hosted", "/ro" + "ot/", "/ho" + r"me/\w", "/wo" + "rk/"])
    )
    for path in tracked():
        for number, line in enumerate(path.read_text().splitlines(), 1):
            assert not forbidden.search(line), f"{path.relative_to(ROOT)}:{number}: {line[:100]}"


# --------------------------------------------------------------------------------------------------- README


def test_readme_explains_every_setting_of_the_cpu_preset() -> None:
    """The table lists exactly the settings in which ``cpu`` differs from the default, with both values."""
    default, cpu = preset("default").to_dict(), preset("cpu").to_dict()
    wanted = {name: (str(default[name]), str(cpu[name])) for name in cpu if cpu[name] != default[name]}
    table = (ROOT / "README.md").read_text().split("**Where `cpu` differs")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+?) \| (.+) \|$", table, re.MULTILINE)
    assert {name: (first, second) for name, first, second, _ in rows} == wanted
    assert all(len(why) > 3 for *_, why in rows)

"""The house itself: the doors fit, imports point down, the code stays small enough to be read in an evening."""

from __future__ import annotations

import ast
import graphlib
import inspect
import io
import re
import subprocess
import sys
import textwrap
import tokenize
import tomllib
from collections.abc import Collection
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from dreamer_helpers.config import preset

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "dreamer_helpers"
FLOORS = {
    1: ("errors", "symlog", "distributions", "replay", "tensorfile", "config", "device", "demos"),
    2: (
        "nets",
        "observations",
        "envs",
        "optim",
        "course",
        "course.passport",
        "course.lessons",
        "course.gpu",
        "course.judging",
        "course.checking",
        "course.attempts",
        "course.exercises",
        "course.own_parts",
    ),
    3: ("world_model", "actor_critic", "variants", "checkpoint"),
    4: ("parts", "agent", "fast", "evaluate", "trainer", "command_line", "train"),
}
"""Each module of the algorithm, and what :meth:`Parts.from_passport` asks of the course."""

BESIDE = {"__init__", "worlds", "plots", "video", "dreams", "bounds"}
ALGORITHM = [name for names in FLOORS.values() for name in names if not name.startswith("course")]
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


@pytest.mark.parametrize("target", ["setup", "lab", "test", "check", "notebooks", "fresh", "html"])
def test_make_has_the_target(target: str) -> None:
    command = ["make", "-n", "PYTHON=" + sys.executable, target]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode == 0


def test_readme_links_lead_somewhere() -> None:
    for page in [path for path in tracked() if path.suffix == ".md"]:
        for link in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
            if "://" not in link:
                assert (page.parent / link).exists(), f"{page.name} links to {link}"


# --------------------------------------------------------------------------------------------------- code


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name below the package."""
    paths = {path.relative_to(PACKAGE).with_suffix(""): path for path in PACKAGE.rglob("*.py")}
    return {".".join(name.parts).removesuffix(".__init__"): path for name, path in paths.items()}


def imports(path: Path, known: Collection[str]) -> set[str]:
    """Modules of the package that a file imports anywhere: in functions, for types, and when it is run as well."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: imports are absolute, so that they can be searched for"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        below = [name.removeprefix("dreamer_helpers.") for name in names if name.startswith("dreamer_helpers.")]
        found |= {name if name in known else name.rpartition(".")[0] for name in below}
    return found & set(known)


def test_imports_make_no_circle() -> None:
    paths = modules()
    graph = {name: imports(path, paths) - {name} for name, path in paths.items()}
    assert sum(map(len, graph.values())) > 100
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the modules


def test_every_module_has_a_floor_and_imports_point_down() -> None:
    paths, floor = modules(), {name: number for number, names in FLOORS.items() for name in names}
    assert {path.stem for path in PACKAGE.glob("*.py")} - BESIDE == set(ALGORITHM)
    for name in floor:
        used = imports(paths[name], paths)
        assert used <= set(floor), f"{name} imports {used - set(floor)}, which belongs to the notebooks"
        above = {other for other in used if floor[other] > floor[name]}
        assert not above, f"{name} imports {above} from a floor above"


@pytest.mark.parametrize("planted", ["import dreamer_helpers.agent", "from dreamer_helpers import agent"])
@pytest.mark.parametrize(
    "place", ["{}", "def f():\n    {}", "if TYPE_CHECKING:\n    {}", "if __name__ == 'x':\n    {}"]
)
def test_an_import_is_found_wherever_it_stands(planted: str, place: str, tmp_path: Path) -> None:
    (tmp_path / "planted.py").write_text(place.format(planted))
    assert imports(tmp_path / "planted.py", modules()) == {"agent"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "absent"),
    [("symlog", ("agent", "world_model", "nets", "gymnasium")), ("world_model", ("agent", "actor_critic", "parts"))],
)
def test_a_module_loads_no_more_than_it_is_made_of(module: str, absent: tuple[str, ...]) -> None:
    check = (
        f"import sys, dreamer_helpers.{module}; names = {{name.split('.')[-1] for name in sys.modules}};"
        f"sys.exit(bool(names & set({absent!r})))"
    )
    assert subprocess.run([sys.executable, "-c", check], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize("name", ["world_model", "actor_critic", "agent", "nets", "distributions"])
def test_equations_stand_without_machinery(name: str) -> None:
    """No switch for speed, no search for attributes of a learner's part, nothing of ``fast.py``."""
    words = re.findall(r"fast|hasattr|getattr|few_rows|lowered|autocast_cache", (PACKAGE / f"{name}.py").read_text())
    assert not words


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


def test_a_function_fits_a_screen() -> None:
    lengths = {}
    for name in [*ALGORITHM, "worlds"]:
        source = (PACKAGE / f"{name}.py").read_text()
        lines = source.splitlines(keepends=True)
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef):
                lengths[f"{name}.{node.name}"] = code_lines(
                    textwrap.dedent("".join(lines[node.lineno - 1 : node.end_lineno]))
                )
    longest = max(lengths, key=lambda key: lengths[key])
    assert lengths[longest] <= 60, longest


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


@pytest.mark.slow
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

"""Options and defaults for all tests: one thread, full float32 precision, and the folder of golden files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers import FORMS, GOLDEN_FILES, GoldenFolder

HERE = Path(__file__).parent
GOLDEN = pytest.StashKey[GoldenFolder]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--golden", metavar="DIR", type=Path, default=HERE / "golden",
        help="folder with the numbers of the official code (default: tests/golden)",
    )  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    torch.set_num_threads(1)
    torch.set_float32_matmul_precision("highest")
    config.stash[GOLDEN] = GoldenFolder(config.getoption("--golden"))


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> GoldenFolder:
    """The folder of golden files that this run is held against."""
    return request.config.stash[GOLDEN]


@pytest.hookimpl(wrapper=True, tryfirst=True)  # outermost, so that its line is the last of the run
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    folder = session.config.stash[GOLDEN]
    part = getattr(session.config, "workeroutput", None)
    if part is not None:  # one of several processes: the first of them adds up
        part["golden"] = sorted(folder.asked), sorted(folder.compared)
    result = yield
    if part is None and folder.asked and (reporter := session.config.pluginmanager.get_plugin("terminalreporter")):
        forms = {form: sum((name, form) in folder.compared for name in GOLDEN_FILES) for form in FORMS}
        counts = ", ".join(f"{form} {count}" for form, count in forms.items())
        reporter.write_line(
            f"golden: {min(forms.values())} of {len(GOLDEN_FILES)} files compared ({counts}; {folder.path})"
        )
    return result


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_testnodedown(node: Any) -> None:
    asked, compared = getattr(node, "workeroutput", {}).get("golden", ((), ()))
    folder = node.config.stash[GOLDEN]
    folder.asked.update(asked)
    folder.compared.update(map(tuple, compared))

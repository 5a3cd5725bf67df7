"""The lessons in a real JupyterLab in a real browser: every cell runs, every slider moves its picture.

Needs Chromium (``apt install chromium``, or the variable CHROMIUM with its path). Screenshots go to
``build/screenshots``. Nothing may be fetched from outside this machine.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import lab  # noqa: E402

LESSONS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
             "--disable-component-update", "--disable-sync", "--no-first-run"]  # fmt: skip
SETTINGS = {
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"}
}  # cells out of sight are in the page too
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt install chromium, or set CHROMIUM to its path"),
]

RUN = """async () => {
    const panel = window.jupyterapp.shell.currentWidget;
    await panel.context.ready;
    await panel.sessionContext.ready;
    await panel.sessionContext.session.kernel.info;
    await window.jupyterapp.commands.execute('notebook:run-all-cells');
    return panel.content.model.toJSON().cells.flatMap((cell, i) => (cell.outputs || [])
        .filter(o => o.output_type === 'error' || o.name === 'stderr')
        .map(o => `cell ${i}: ${o.ename || o.text}: ${o.evalue || ''}`));
}"""
MOVE = """async ([number, key]) => {  // one key on a slider: milliseconds until its picture is another one, or -1
    const handle = document.querySelectorAll('.noUi-handle')[number];
    const picture = handle.closest('.jp-OutputArea-output').querySelector('img');
    const before = picture.src, begun = performance.now();
    handle.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true}));
    while (picture.src === before && performance.now() - begun < 5000)
        await new Promise(resolve => requestAnimationFrame(resolve));
    if (picture.src === before) return -1;
    await picture.decode().catch(() => 0);
    return performance.now() - begun;
}"""

BURST = """async number => {  // 40 keys in 0.4 s: milliseconds from the last of them to the last change of the picture
    const handle = document.querySelectorAll('.noUi-handle')[number];
    const picture = handle.closest('.jp-OutputArea-output').querySelector('img');
    for (let i = 0; i < 40; i++) {
        handle.dispatchEvent(new KeyboardEvent('keydown', {key: i < 25 ? 'ArrowRight' : 'ArrowLeft', bubbles: true}));
        await new Promise(resolve => setTimeout(resolve, 10));
    }
    const begun = performance.now();
    let last = begun, shown = picture.src;
    while (performance.now() - begun < 1500) {
        await new Promise(resolve => requestAnimationFrame(resolve));
        if (picture.src !== shown) { shown = picture.src; last = performance.now(); }
    }
    return last - begun;
}"""
TOGGLE = """async number => {  // press the toggle: whether its picture becomes another one
    const button = document.querySelectorAll('.jp-OutputArea-output .widget-toggle-button')[number];
    const picture = button.closest('.jp-OutputArea-output').querySelector('img');
    const before = picture.src, begun = performance.now();
    button.click();
    while (picture.src === before && performance.now() - begun < 5000)
        await new Promise(resolve => requestAnimationFrame(resolve));
    return picture.src !== before;
}"""
DREAM = """async seconds => {  // keys as a held key repeats, every 30 ms: dreamed frames per second
    const box = document.querySelector('div[role="application"]');
    const picture = box.closest('.jp-OutputArea-output').querySelector('img');
    const begun = performance.now();
    let frames = 0, shown = picture.src, pressed = 0;
    while (performance.now() - begun < 1000 * seconds) {
        if (performance.now() - begun > 30 * pressed) {
            const key = Math.floor(pressed / 40) % 2 ? 'ArrowRight' : 'ArrowLeft';
            box.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true}));
            pressed++;
        }
        await new Promise(resolve => setTimeout(resolve, 2));
        if (picture.src !== shown) { shown = picture.src; frames++; }
    }
    return frames / seconds;
}"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """JupyterLab on learners' copies of all lessons: its address and token."""
    home, course = tmp_path_factory.mktemp("jupyter"), tmp_path_factory.mktemp("course")
    for notebook in (ROOT / "notebooks").glob("*.ipynb"):
        lab.copy(notebook, course)
    shutil.copytree(ROOT / "notebooks", course / "stored", ignore=shutil.ignore_patterns("source", "runs"))
    lab.link_figures(ROOT / "notebooks", course)
    lab.without_news()
    for name, values in SETTINGS.items():
        path = home / "settings" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token, folders = secrets.token_hex(16), ("config", "data", "runtime")
    env = {f"JUPYTER_{name.upper()}_DIR": str(home / name) for name in folders} | {
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"), "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "COURSE_BUDGET": "ci", "COURSE_EXERCISES": "",
    }  # fmt: skip
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}",
        f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={course}", "--expose-app-in-browser",
    ]  # fmt: skip
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(command, env={**os.environ, **env}, stdout=log, stderr=log, cwd=course)
    address, limit = f"http://127.0.0.1:{port}", time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(f"{address}/api/status?token={token}", timeout=2).read()
            break
        except OSError:
            assert process.poll() is None and time.monotonic() < limit, (home / "log").read_text()[-3000:]
            time.sleep(0.2)
    yield address, token
    process.terminate()
    process.wait(20)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A browser without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Any) -> Iterator[Any]:
    """A page from which nothing leaves this machine."""
    context = chromium.new_context(viewport={"width": 1280, "height": 1000})
    local = ("http://127.0.0.1", "ws://127.0.0.1", "file://", "data:", "blob:")
    context.route(lambda url: not url.startswith(local), lambda route: route.abort())
    opened = context.new_page()
    opened.set_default_timeout(180_000)
    yield opened
    context.close()


def screenshot(page: Any, name: str) -> None:
    folder = ROOT / "build" / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=folder / f"{name}.png")


def open_and_run(page: Any, server: tuple[str, str], lesson: str) -> list[str]:
    """Open a lesson and run all its cells; returns errors and warnings that a learner would see."""
    address, token = server
    page.goto(f"{address}/lab/tree/{lesson}.ipynb?token={token}&reset")
    page.wait_for_function("() => window.jupyterapp?.shell.currentWidget?.sessionContext")
    return page.evaluate(RUN)


def open_stored(page: Any, server: tuple[str, str], lesson: str) -> None:
    """Open a lesson as it is committed, with the outputs that are stored in it; nothing is executed."""
    address, token = server
    page.goto(f"{address}/lab/tree/stored/{lesson}.ipynb?token={token}&reset")
    page.wait_for_function("() => window.jupyterapp?.shell.currentWidget?.sessionContext")
    page.evaluate("() => window.jupyterapp.shell.currentWidget.context.ready")
    page.wait_for_timeout(2000)  # outputs are drawn one after the other


def names_of(page: Any, *roles: str) -> list[str]:
    """The names of everything that has one of the roles, as a screen reader is told them."""
    nodes = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    return [n.get("name", {}).get("value", "") for n in nodes if not n["ignored"] and n["role"]["value"] in roles]


def words_of_pictures(page: Any, outputs: str) -> list[str]:
    """The names of all pictures in the outputs of a page. Fails where a picture is not in the tree, or has no words."""
    count = page.locator(f"{outputs} img").count()
    described = [
        name for name in names_of(page, "image", "img") if len(name.split()) >= 5 and "No description" not in name
    ]
    assert len(described) >= count, f"{count} pictures, and only these have words: {described}"
    return described


@pytest.mark.parametrize("lesson", LESSONS)
def test_stored_pictures_have_words_in_jupyterlab(lesson: str, page: Any, server: tuple[str, str]) -> None:
    """Each picture, film and still of the committed notebook, in what JupyterLab tells a screen reader."""
    open_stored(page, server, lesson)
    nb = nbformat.read(ROOT / "notebooks" / f"{lesson}.ipynb", as_version=4)
    words = words_of_pictures(page, ".jp-OutputArea-output")
    assert alternatives(nb)
    for alt in alternatives(nb):
        assert any(alt in name for name in words), f"{alt!r} is not said; {words}"
    assert "Error displaying widget" not in page.locator(".jp-Notebook").first.inner_text()


def alternatives(nb: nbformat.NotebookNode) -> list[str]:
    """The words of all pictures that a notebook stores."""
    outputs = [output for cell in nb.cells for output in cell.get("outputs", [])]
    return [output.data["text/plain"] for output in outputs if "base64" in str(output.get("data"))]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All lessons as HTML, by the plain command: half of them from the project's root, half from its folder."""
    folder = tmp_path_factory.mktemp("html")
    for number, lesson in enumerate(LESSONS):
        place = [ROOT, ROOT / "notebooks"][number % 2]
        path = os.path.relpath(ROOT / "notebooks" / f"{lesson}.ipynb", place)
        command = [sys.executable, "-m", "nbconvert", "--to", "html", f"--output-dir={folder}", path]
        subprocess.run(command, cwd=place, check=True, capture_output=True)
    return folder


@pytest.mark.parametrize("lesson", LESSONS)
def test_an_exported_page_needs_no_network(lesson: str, page: Any, pages: Path) -> None:
    """Formulas, pictures and stills, each with its words."""
    page.context.set_offline(True)
    page.goto((pages / f"{lesson}.html").as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    nb = nbformat.read(ROOT / "notebooks" / f"{lesson}.ipynb", as_version=4)
    text = page.evaluate(PROSE)
    assert "$" not in text
    assert not re.findall(r"\\[a-zA-Z]+", text)
    boxes = [math.bounding_box() for math in page.locator(".jp-MarkdownCell math").all()]
    assert len(boxes) == formulas(nb)
    assert all(box and box["width"] > 3 and box["height"] > 3 for box in boxes)
    words = words_of_pictures(page, ".jp-Cell")
    assert all(any(alt in name for name in words) for alt in alternatives(nb))
    assert page.evaluate("[...document.images].every(picture => picture.naturalWidth > 0)")
    folder = ROOT / "build" / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=folder / f"{lesson}_page.png", full_page=True)


PROSE = """() => [...document.querySelectorAll('.jp-MarkdownCell')].map(cell => {
    const copy = cell.cloneNode(true);
    copy.querySelectorAll('code, pre, annotation').forEach(code => code.remove());
    return copy.textContent;
}).join('\\n')"""


def formulas(nb: nbformat.NotebookNode) -> int:
    """How many formulas stand in the text of a notebook, outside of code."""
    prose = "\n\n".join(cell.source for cell in nb.cells if cell.cell_type == "markdown")
    prose = re.sub(r"^```.*?^```|`[^`]*`", "", prose, flags=re.MULTILINE | re.DOTALL)
    return len(re.findall(r"\$\$.+?\$\$|\$.+?\$", prose, re.DOTALL))


@pytest.mark.parametrize("lesson", LESSONS)
def test_a_lesson_runs_and_its_controls_answer(lesson: str, page: Any, server: tuple[str, str]) -> None:
    """Every slider by keyboard and with the mouse, every toggle; then the dark theme."""
    assert open_and_run(page, server, lesson) == []
    page.wait_for_timeout(1500)  # the names of controls come a little later than they do
    words_of_pictures(page, ".jp-OutputArea-output")
    assert all(names_of(page, "slider"))
    handles = page.locator(".noUi-handle")
    count = handles.count()
    assert count >= 1 or lesson.startswith("00")
    screenshot(page, lesson)
    assert page.locator(".jp-Dialog, .Toastify__toast").all_inner_texts() == [], "something pops up before the lesson"
    for number in range(count):
        handles.nth(number).scroll_into_view_if_needed()
        page.wait_for_timeout(300)
        moved = [page.evaluate(MOVE, [number, key]) for key in ("ArrowRight", "ArrowLeft")]
        assert max(moved) > 0, f"slider {number} of {lesson} does not change its picture"  # it may stand at one end
        drag(page, number)
        screenshot(page, f"{lesson}_slider_{number}")
    toggles = page.locator(".jp-OutputArea-output .widget-toggle-button")
    for number in range(toggles.count()):
        if "mod-active" not in toggles.nth(number).get_attribute("class"):
            assert page.evaluate(TOGGLE, number), f"toggle {number} of {lesson} does not change its picture"
    page.evaluate("window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'})")
    page.wait_for_function("document.body.dataset.jpThemeLight === 'false'")
    page.wait_for_timeout(1500)  # the curtain that JupyterLab draws over the change
    for number in range(count):
        handles.nth(number).scroll_into_view_if_needed()
        page.wait_for_timeout(300)
        assert max(page.evaluate(MOVE, [number, key]) for key in ("ArrowRight", "ArrowLeft")) > 0
        screenshot(page, f"{lesson}_slider_{number}_dark")
    page.locator(".jp-OutputArea-output img").first.scroll_into_view_if_needed()
    screenshot(page, f"{lesson}_dark")
    page.evaluate("window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Light'})")


def drag(page: Any, number: int) -> None:
    """Pull a slider's handle to the other half of its track with the mouse; its picture must change."""
    handle = page.locator(".noUi-handle").nth(number)
    picture = handle.locator("xpath=ancestor::div[contains(@class, 'jp-OutputArea-output')][1]//img").first
    track = handle.locator("xpath=ancestor::div[contains(@class, 'noUi-target')][1]").bounding_box()
    before, box = picture.get_attribute("src"), handle.bounding_box()
    middle = track["x"] + track["width"] / 2
    goal = track["x"] + track["width"] * (0.2 if box["x"] + box["width"] / 2 > middle else 0.8)
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(goal, box["y"] + box["height"] / 2, steps=20)
    page.mouse.up()
    page.wait_for_timeout(1000)
    assert picture.get_attribute("src") != before, f"the mouse moves slider {number}, and its picture stays"


def test_a_slider_is_quick(page: Any, server: tuple[str, str]) -> None:
    """Key to repainted picture, both timed in the page; the bounds have room for a busy machine."""
    assert open_and_run(page, server, "01_symlog") == []
    times = []
    for i in range(40):
        times.append(page.evaluate(MOVE, [0, ("ArrowRight", "ArrowLeft")[i % 2]]))
        page.wait_for_timeout(100)
    lag = page.evaluate(BURST, 0)
    median, nine = statistics.median(times), sorted(times)[35]
    print(f"key to picture: median {median:.0f} ms, 9 of 10 within {nine:.0f} ms; {lag:.0f} ms behind a burst of 40")
    assert 0 < median < 300
    assert lag < 400


def test_an_exercise_is_written_and_passes(page: Any, server: tuple[str, str]) -> None:
    """What a learner does: fill in the stub, run the cell, read the verdict."""
    assert open_and_run(page, server, "01_symlog") == []
    verdict = page.evaluate("""async () => {
        const panel = window.jupyterapp.shell.currentWidget, cells = panel.content.widgets;
        const cell = cells.find(c => c.model.sharedModel.getSource().startsWith('@exercise("symlog")'));
        cell.model.sharedModel.setSource(
            '@exercise("symlog")\\ndef symlog(x):\\n    return x.sign() * x.abs().log1p()');
        panel.content.activeCellIndex = cells.indexOf(cell);
        await window.jupyterapp.commands.execute('notebook:run-cell');
        return cell.outputArea.node.innerText;
    }""")
    assert "exercise symlog: right; yours is used from here on" in verdict
    screenshot(page, "01_symlog_exercise")


def test_the_dream_is_played_with_keys_and_with_buttons(page: Any, server: tuple[str, str]) -> None:
    assert open_and_run(page, server, "00_start_here") == []
    words = page.locator('.jp-OutputArea-output div[role="status"]', has_text="since the eyes closed").first
    words.scroll_into_view_if_needed()
    before = int(words.inner_text().split()[1])
    for press in (
        lambda: page.locator("button", has_text="right").first.click(),
        lambda: (page.locator('div[role="application"]').click(), page.keyboard.press("ArrowLeft")),
        lambda: page.keyboard.press("ArrowRight"),
    ):
        press()
        page.wait_for_timeout(700)
        before += 1
        assert words.inner_text().startswith(f"Step {before} ")
    rate = page.evaluate(DREAM, 4)
    print(f"dream: {rate:.1f} frames a second")
    assert rate > 5  # with room for a busy machine
    screenshot(page, "00_start_here_dream")

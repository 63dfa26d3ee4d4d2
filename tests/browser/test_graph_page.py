"""The interactive page in a real browser: hover, step, slide, both themes, no error."""

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import torch

from gradfit.graph import Film, trace

BROWSER = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip

# Uses the page as a reader would and writes what it saw into the document.
VISIT = """
<script>
(() => {
const seen = {};
const texts = () => [...document.querySelectorAll(".card text")].map(t => t.textContent);
seen.cards = document.querySelectorAll(".card").length;
const card = document.querySelector(".card.leaf");
card.onmouseenter();
seen.dimmed = document.querySelectorAll(".link:not(.near)").length;
seen.focused = document.getElementById("stage").classList.contains("focus");
card.onmouseleave();
seen.left = document.getElementById("stage").classList.contains("focus");
card.onclick();
seen.details = document.getElementById("details").textContent;
const head = () => document.querySelector("#details h2").textContent;
const count = kind => document.querySelectorAll(kind).length;
const press = key => document.dispatchEvent(new KeyboardEvent("keydown", {key}));
press("Escape");
seen.forward = [];
for (let i = 0; i < seen.cards; i++) {
  document.getElementById("forward").click();
  seen.forward.push(head());
}
seen.computed = [count(".card.later"), count(".link.now")];
press("Escape");
seen.backward = [];
for (let i = 0; i < seen.cards; i++) { press("ArrowLeft"); seen.backward.push(head()); }
seen.flowing = count(".astern .link.now");
press("Escape");
seen.cleared = [count(".later"), count("#details h2"), count("#details .key")];
const camera = () => document.getElementById("camera").getAttribute("transform");
const places = [camera()];
press("+"); places.push(camera());
document.getElementById("farther").click(); places.push(camera());
const stage = document.getElementById("stage");
const here = {clientX: 300, clientY: 300};
stage.dispatchEvent(new WheelEvent("wheel", {deltaY: -200, ...here})); places.push(camera());
stage.dispatchEvent(new PointerEvent("pointerdown", here));
window.dispatchEvent(new PointerEvent("pointermove", {clientX: 350, clientY: 380}));
window.dispatchEvent(new PointerEvent("pointerup", {})); places.push(camera());
press("0"); places.push(camera());
seen.places = places;
seen.spoken = card.getAttribute("aria-label");
seen.reachable = count(".card[tabindex='0'][role=button][aria-label]");
const before = texts().join("|");
const slider = document.getElementById("frame");
slider.value = 3; slider.dispatchEvent(new Event("input"));
seen.moved = texts().join("|") !== before;
seen.label = document.getElementById("label").textContent;
seen.said = slider.getAttribute("aria-valuetext");
slider.value = 0; slider.dispatchEvent(new Event("input"));
seen.returned = texts().join("|") === before;
const box = part => part.getBoundingClientRect();
seen.outside = 0;
for (const c of document.querySelectorAll(".card")) {
  const room = box(c.querySelector("rect"));
  for (const t of c.querySelectorAll("text"))
    if (box(t).left < room.left || box(t).right > room.right) seen.outside++;
}
const paper = () => getComputedStyle(document.body).backgroundColor;
const first = paper(); document.getElementById("theme").click();
seen.themes = [first, paper()];
press("ArrowRight");
seen.errors = window.errors;
document.body.dataset.seen = JSON.stringify(seen);
})();
</script>
"""
# Slides to the frame where a branch went the other way, and back.
BRANCH = """
<script>
(() => {
const slider = document.getElementById("frame"), seen = [];
const look = () => [...document.querySelectorAll(".card .title")].map(t => t.textContent);
document.querySelectorAll(".card")[1].onclick();
for (const value of [0, 1, 2, 0]) {
  slider.value = value; slider.dispatchEvent(new Event("input"));
  seen.push([look(), document.getElementById("label").textContent]);
}
document.body.dataset.seen = JSON.stringify({frames: seen, errors: window.errors});
})();
</script>
"""
# Measures the picture as it is drawn: texts on texts, texts beyond cards, arrows through cards.
MEASURE = """
<script>
(() => {
const found = {cards: 0, overlaps: [], outside: [], through: []};
const box = part => part.getBoundingClientRect();
const meet = (a, b) => a.left < b.right - 0.5 && b.left < a.right - 0.5
  && a.top < b.bottom - 0.5 && b.top < a.bottom - 0.5;
const cards = [...document.querySelectorAll("#stage .card")];
const rooms = cards.map(card => box(card.querySelector("rect")));
const texts = [...document.querySelectorAll("#stage text")].map(t => [t, box(t)]);
found.cards = cards.length;
texts.forEach(([one, a], i) => texts.slice(0, i).forEach(([other, b]) => {
  const same = one.parentNode === other.parentNode && !one.classList.contains("part");
  if (!same && meet(a, b)) found.overlaps.push([one.textContent, other.textContent]);
  if (same && a.left < b.right && b.left < a.right && Math.abs(a.top - b.top) < 4)
    found.overlaps.push([one.textContent, other.textContent]);
}));
texts.forEach(([text, a]) => rooms.forEach((room, k) => {
  const own = text.parentNode === cards[k];
  if (own && (a.left < room.left || a.right > room.right)) found.outside.push(text.textContent);
  if (!own && meet(a, room)) found.outside.push(text.textContent);
}));
for (const link of document.querySelectorAll("#stage .link")) {
  const ends = [Number(link.dataset.from), Number(link.dataset.to)], all = link.getTotalLength();
  const screen = link.getScreenCTM();
  for (let at = 0; at <= all; at += 3) {
    const p = link.getPointAtLength(at).matrixTransform(screen);
    rooms.forEach((r, k) => {
      if (!ends.includes(k) && p.x > r.left && p.x < r.right && p.y > r.top && p.y < r.bottom)
        found.through.push([ends, k]);
    });
  }
}
document.body.dataset.seen = JSON.stringify(found);
})();
</script>
"""
WATCH = """<script>window.errors = [];
window.onerror = message => { window.errors.push(String(message)); };
for (const kind of ["error", "warn"])
  console[kind] = (...said) => { window.errors.push(said.join(" ")); };
</script>"""

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(BROWSER is None, reason="Chromium is not installed"),
]


def leaf(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)


def loss(a, b):
    x = torch.linspace(0, 10, 11, dtype=torch.float64)
    return torch.mean((a * x - 2 * x + b) ** 2 / (a**2 + 1))


def visit(page: str, folder: Path, script: str = VISIT) -> dict[str, Any]:
    file = folder / "page.html"
    file.write_text(page.replace("<body>", "<body>" + WATCH).replace("</body>", script + "</body>"))
    run = subprocess.run(
        [
            str(BROWSER),
            *FLAGS,
            f"--user-data-dir={folder / 'profile'}",
            "--dump-dom",
            file.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found = re.search(r'data-seen="([^"]*)"', run.stdout)
    assert found, run.stdout[:500]
    return json.loads(unescape(found.group(1)))


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    film = Film.of(loss, [(leaf(0.25 * i), leaf(0.0)) for i in range(5)])
    return visit(film.to_html(), tmp_path_factory.mktemp("page"))


def test_page_answers_to_hover_slider_and_theme(seen: dict[str, Any]) -> None:
    assert seen["errors"] == []
    assert seen["cards"] >= 10
    assert seen["focused"]
    assert not seen["left"]
    assert "why" in str(seen["details"])
    assert seen["moved"]
    assert seen["returned"]
    assert seen["outside"] == 0
    assert str(seen["label"]).startswith("step 3")
    assert seen["said"] == seen["label"]
    themes = seen["themes"]
    assert isinstance(themes, list)
    assert themes[0] != themes[1]


def test_steps_go_forward_through_values_and_back_through_gradients(
    seen: dict[str, Any],
) -> None:
    assert len(set(seen["forward"])) == seen["cards"] - 1  # x stands beside each of its two uses
    assert seen["forward"][-1].startswith("torch.mean")
    assert seen["computed"] == [0, 1]
    assert seen["backward"][0].startswith("torch.mean")
    assert not {"x"} & set(seen["backward"])
    assert set(seen["backward"]) < set(seen["forward"])
    assert seen["cleared"] == [0, 0, 1]


def test_wheel_drag_buttons_and_keys_move_the_picture(seen: dict[str, Any]) -> None:
    places = [[float(n) for n in re.findall(r"-?[0-9.]+(?:e-?\d+)?", p)] for p in seen["places"]]
    start, closer, farther, wheel, dragged, whole = places
    assert closer[2] == pytest.approx(1.25 * start[2])
    assert farther == pytest.approx(start)
    assert wheel[2] > start[2]
    assert dragged == pytest.approx([wheel[0] + 50, wheel[1] + 80, wheel[2]])
    assert whole[2] <= start[2]


def test_cards_are_spoken_and_reached_by_keyboard(seen: dict[str, Any]) -> None:
    assert seen["reachable"] == seen["cards"]
    assert "grad" in seen["spoken"]


def two_steps(p, q):
    x = torch.linspace(0, 10, 11, dtype=torch.float64)
    y = 2.5 * x + 1
    for _ in range(2):
        d = p**2 + 1
        r = p * x - y + q
        gp = torch.mean(2 * r * x / d) - torch.mean(2 * p * r**2 / d**2)
        gq = torch.mean(2 * r / d)
        p = p - 0.0005 * gp
        q = q - 0.0005 * gq
    return torch.mean((p * x - y + q) ** 2 / (p**2 + 1))


@pytest.mark.parametrize(
    ("detail", "least"), [("statement", 12), ("operation", 60)], ids=["dozen", "sixty"]
)
def test_no_arrow_crosses_a_card_and_no_text_another(tmp_path, detail, least) -> None:
    graph = trace(two_steps, leaf(0.5), leaf(0.0))
    found = visit(graph.to_html(detail=detail), tmp_path, MEASURE)
    assert found.pop("cards") >= least
    assert found == {"overlaps": [], "outside": [], "through": []}


def test_a_frame_of_another_structure_is_drawn_anew(tmp_path: Path) -> None:
    def branch(a):
        return a * 2 if a > 1 else (a - 3) ** 2

    film = Film.of(branch, [(leaf(v),) for v in (0.5, 2.0, 3.0)])
    seen = visit(film.to_html(), tmp_path, BRANCH)
    assert seen["errors"] == []
    first, second, third, again = seen["frames"]
    assert "(a - 3) ** 2" in first[0]
    assert "a * 2" in second[0]
    assert "(a - 3) ** 2" not in second[0]
    assert second[1] == "step 1 · the structure changed here"
    assert third == [second[0], "step 2"]
    assert again == first

"""The report in a real browser, opened from the disk: what cannot be seen in its text.

Needs a Chromium on the PATH, or one named in YOKAI_TEST_BROWSER; without one these tests are skipped. Users need none.
"""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest

from yokai_assets.gallery import FailureRecord, append_failures, build_gallery, load_gallery_data
from yokai_assets_tests.gallery.browser import BROWSER_VARIABLE, Browser, browser, find_browser
from yokai_assets_tests.gallery.sample import AT, SampleSeries

SCRIPT = "<script>alert(1)</script>"
PICTURE = '"><img src=x onerror=alert(2)>'
ODD = "50% off? #1 'Q' \"R\" & 🦊"

pytestmark = [
    pytest.mark.skipif(find_browser() is None, reason=f"no Chromium on the PATH, and none in {BROWSER_VARIABLE}"),
    pytest.mark.timeout(300),
]


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A series whose folder, ids, names, captions and failures are as hostile as file systems allow."""
    root = tmp_path_factory.mktemp("series") / "100% <b>#1? 🦊" / "<script>alert(1)<"  # a name may hold all but a slash
    sample = SampleSeries(
        root, 7, episode_count=2, side_px=40, exemplar_count=2, image_count=4,
        ids=["cluster_000", "a b #1", "50%41?x=1&y", "<script>alert(3)<", "'q' \"r\"", "🦊javascript:x", "cluster_006"],
        names={0: SCRIPT, 1: PICTURE, 2: ODD, 3: "</script><script>alert(4)</script>"},
        caption_end=f", {SCRIPT} {PICTURE}",
    )  # fmt: skip
    layout = sample.write()
    reason = f"{root}/frame.jpg: cannot be read {SCRIPT} {PICTURE}"
    append_failures(layout, [FailureRecord(at=AT, step="lora_model", partition="'q' \"r\"", reason=reason)])
    data = load_gallery_data(layout, at=AT, times=sample.times(), is_over=lambda _: False)
    return Path(str(build_gallery(layout, data))).parent


@pytest.fixture(scope="module")
def window() -> Iterator[Browser]:
    program = find_browser()
    assert program is not None
    with browser(program) as opened:
        yield opened


@pytest.fixture(autouse=True)
def nothing_to_complain_about(window: Browser) -> Iterator[None]:
    window.resize(1280)
    window.complaints.clear()
    yield
    window.settle()
    assert window.complaints == []


def pages_of(gallery: Path) -> list[Path]:
    return [gallery / "index.html", gallery / "comparison.html", *sorted((gallery / "characters").glob("*.html"))]


def test_every_internal_link_opens_and_nothing_is_fetched_from_elsewhere(gallery: Path, window: Browser):
    """Protects the way from page to page, by the browser's own reading of each address."""
    window.requests.clear()
    to_visit, visited = [gallery / "index.html"], set()
    while to_visit:
        page = to_visit.pop()
        visited.add(page)
        window.open(page)
        for address in window.run("[...document.querySelectorAll('a[href]')].map((a) => a.href)"):
            parts = urlparse(address)
            target = Path(unquote(parts.path))
            assert parts.scheme == "file" and target.exists(), f"{page.name}: {address}"
            if target == page and parts.fragment:
                assert window.run(f"document.getElementById({parts.fragment!r}) !== null"), address
            elif target.suffix == ".html" and target not in visited and target not in to_visit:
                to_visit.append(target)
    assert visited == set(pages_of(gallery))
    assert {urlparse(address).scheme for address in window.requests} <= {"file", "data"}


def test_every_picture_is_there_and_described(gallery: Path, window: Browser):
    for page in pages_of(gallery):
        window.open(page)
        shown = window.run(
            """Promise.all([...document.images].map(async (image) => {
                image.loading = "eager"; await image.decode(); return image.alt.length > 0 && image.naturalWidth > 0;
            }))"""
        )
        assert all(shown), page.name
    assert sum(1 for _ in (gallery / "images").rglob("*.webp")) > 50


def test_names_and_captions_are_shown_not_run(gallery: Path, window: Browser):
    """A script that ran would open a dialog, which is a complaint; an injected element would be in the tree."""
    window.open(gallery / "index.html")
    text = window.run("document.body.textContent")
    for planted in (SCRIPT, PICTURE, ODD, "</script><script>alert(4)</script>"):
        assert planted in text
    for page in pages_of(gallery):
        window.open(page)
        assert window.run("document.querySelectorAll('[onerror], b > a, iframe, img[src=x]').length") == 0
        scripts = window.run("[...document.scripts].map((s) => s.type || new URL(s.src).pathname.split('/').pop())")
        assert set(scripts) <= {"gallery.js", "application/json"}, page.name


@pytest.mark.parametrize("width_px", [360, 768])
def test_no_page_is_wider_than_the_screen(gallery: Path, window: Browser, width_px: int):
    window.resize(width_px, 800, is_phone=True)
    for page in pages_of(gallery):
        window.open(page)
        window.run("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
        assert window.run("document.documentElement.scrollWidth") <= width_px, page.name
        # Neither is anything cut off: what is wider scrolls in a region that the keyboard reaches.
        beyond = window.run(
            """[...document.querySelectorAll("main *")].filter((e) =>
                e.getBoundingClientRect().right > innerWidth + 1 && !e.closest("[tabindex='0'], .map-scroll"))
                .map((e) => e.outerHTML.slice(0, 80))"""
        )
        assert beyond == [], page.name


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(gallery: Path, window: Browser, scheme: str):
    """WCAG AA: 4.5 to 1 for the inks on the grounds that they are used on, in both schemes."""
    window.prefer(scheme)
    window.open(gallery / "index.html")
    pairs = ["ink ground", "ink surface", "ink sunken", "muted ground", "muted surface", "muted sunken",
             "accent ground", "accent surface", "good good-soft", "bad bad-soft", "cool cool-soft"]  # fmt: skip
    for pair in pairs:
        ratio = window.run(_CONTRAST % tuple(f"--{name}" for name in pair.split()))
        assert ratio >= 4.5, f"{scheme}: {pair} {ratio:.2f}"


_CONTRAST = """(() => {
  const light = (name) => {
    const hex = getComputedStyle(document.documentElement).getPropertyValue(name).trim().slice(1);
    const [r, g, b] = [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16) / 255)
      .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const [a, b] = [light("%s"), light("%s")].sort();
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
})()"""


def test_all_can_be_reached_with_the_keyboard(gallery: Path, window: Browser):
    """Tab visits everything that can be used, in order, and comes round; what has the focus shows it."""
    window.open(gallery / "index.html")
    seen, is_marked = [], []
    for _ in range(200):
        window.press("Tab", 9)
        name = window.run(
            "document.activeElement.className || document.activeElement.id || document.activeElement.tagName"
        )
        if name == "BODY" or (seen and name == "skip"):
            break
        seen.append(name)
        style = window.run("getComputedStyle(document.activeElement).outlineStyle")
        is_marked.append(style != "none" or name in ("search", "skip"))
    assert seen[0] == "skip"
    for wanted in ("search", "filter", "sort", "card-link", "trigger", "table-scroll"):
        assert wanted in seen, wanted
    assert seen.count("card-link") == 7
    assert sum("map-tile" in name for name in seen) == 1, "the map is one stop"
    assert all(is_marked)


def test_the_map_is_walked_with_arrows_and_shows_who_is_there(gallery: Path, window: Browser):
    window.open(gallery / "index.html")
    window.run("document.querySelector('.map-tile[tabindex=\"0\"]').focus()")
    visited = set()
    shown = "document.querySelector('#map-info .map-title').textContent"
    for key, code in (
        [("ArrowRight", 39)] * 4 + [("ArrowDown", 40)] * 3 + [("ArrowLeft", 37)] * 4 + [("ArrowUp", 38)] * 3
    ):
        visited.add(window.run("document.activeElement.dataset.title"))
        assert window.run(shown) == window.run("document.activeElement.dataset.title")
        window.press(key, code)
    assert len(visited) >= 3
    assert window.run("document.querySelector('#map-info img').decode().then(() => true)")
    # With the mouse likewise.
    window.run("document.querySelectorAll('.map-tile')[1].dispatchEvent(new PointerEvent('pointerenter'))")
    assert window.run(shown) == window.run("document.querySelectorAll('.map-tile')[1].dataset.title")


def test_the_matrix_is_read_out_with_names_as_they_are(gallery: Path, window: Browser):
    window.open(gallery / "comparison.html")
    window.run("document.getElementById('heat').focus()")
    assert "its own LoRA: cosine" in window.run("document.getElementById('heat-readout').textContent")
    window.press("ArrowRight", 39)
    said = window.run("document.getElementById('heat-readout').textContent")
    assert "against" in said and "<script>" in said and "recognised as it" in said


def test_search_and_filters_leave_what_matches(gallery: Path, window: Browser):
    window.open(gallery / "index.html")
    shown = "[...document.querySelectorAll('#cards > :not([hidden])')].length"
    assert window.run(shown) == 7
    find = (
        "(() => { const s = document.getElementById('search'); s.value = %r; s.dispatchEvent(new Event('input')); })()"
    )
    window.run(find % "off? #1")
    assert window.run(shown) == 1
    window.run(find % "nobody at all")
    assert window.run(shown) == 0 and not window.run("document.getElementById('nothing').hidden")
    window.run("document.getElementById('reset').click()")
    window.run("document.querySelector('.filter[data-status=retired]').click()")
    assert window.run(shown) == 1

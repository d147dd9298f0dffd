"""The built site as a reader meets it: every link leads somewhere, and in a browser every page can be read and left."""

import io
import json
import os
import re
import shutil
from html.parser import HTMLParser
from urllib.parse import parse_qs, unquote, urljoin, urlsplit

import nbformat
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import sync_playwright

from hsa.files import REPOSITORY
from hsa.reporting.staging import CHAPTERS

pytestmark = pytest.mark.smoke
PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1280, "height": 900}
ENLARGED = {"width": 320, "height": 256}  # a desktop whose page is enlarged fourfold
OPTIONS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")
READ = ["book/method.html", "notebooks/p53/02_contrastive_training.html", "book/api/bags.html"]  # a page of each sort
# What a reader of a phone would meet as a page that slides about, and of a keyboard as one that cannot be reached.
LOOK = """() => {
  const scrolls = e => ['auto', 'scroll'].includes(getComputedStyle(e).overflowX) && e.scrollWidth > e.clientWidth;
  const cut = [...document.querySelectorAll('main table, main pre')].filter(e => {
    let box = e;
    while (box.tagName !== 'MAIN' && !scrolls(box)) box = box.parentElement;
    const right = Math.max(...[e, ...e.children].map(one => one.getBoundingClientRect().right));
    return box.tagName === 'MAIN' && right > innerWidth + 1;
  });
  const boxes = [...document.querySelectorAll('main *')];
  const unreachable = boxes.filter(e => e.clientWidth && e.tabIndex < 0 && scrolls(e));
  const tables = boxes.filter(e => e.matches('.pst-scrollable-table-container, .cell_output > .output:has(table)'));
  const says = e => getComputedStyle(e, '::before').content.includes('scroll');
  return {
    misled: tables.filter(e => e.clientWidth && says(e) !== scrolls(e)).map(e => e.outerHTML.slice(0, 200)),
    beyond: document.scrollingElement.scrollWidth - innerWidth,
    cut: cut.map(e => e.outerHTML.slice(0, 200)),
    unreachable: unreachable.map(e => e.outerHTML.slice(0, 200)),
  };
}"""

# The texts of the picture of the wings: whether they lie in their box, how large and in what colours they are.
BOXES = """() => [...document.querySelectorAll('figure.wings svg text')].map(text => {
  const rect = text.parentElement.querySelector('rect'), a = text.getBBox(), b = rect.getBBox();
  const style = getComputedStyle(text), scale = text.getScreenCTM().a;
  return {
    name: text.textContent,
    fits: a.x >= b.x && a.y >= b.y && a.x + a.width <= b.x + b.width && a.y + a.height <= b.y + b.height,
    px: parseFloat(style.fontSize) * scale,
    colours: [style.fill, getComputedStyle(rect).fill],
  };
})"""


class Links(HTMLParser):
    """Collects what a page leads to and loads, the names that others can lead to, and where it sends its reader."""

    def __init__(self, text):
        super().__init__()
        self.targets, self.names, self.moved = [], set(), None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.targets += [given[key] for key in ("href", "src", "data") if given.get(key)]
        self.names |= {given[key] for key in ("id", "name") if given.get(key)}
        if given.get("http-equiv", "").lower() == "refresh":
            self.moved = given["content"].partition("url=")[2]
            self.targets.append(self.moved)


@pytest.fixture(scope="session")
def links(pages):
    return {name: Links(text) for name, text in pages.items()}


@pytest.fixture(scope="session")
def browser():
    """Chromium, as the system has it: nothing is downloaded."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        reason = "no Chromium on this machine: the built pages are not looked at in a browser"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=program, args=OPTIONS)
        yield found
        found.close()


@pytest.fixture
def window(browser):
    """A function that opens a window of a size."""
    contexts = []

    def new(size, scheme="light"):
        contexts.append(browser.new_context(viewport=size, has_touch=size is PHONE, color_scheme=scheme))
        return contexts[-1].new_page()

    yield new
    for context in contexts:
        context.close()


def test_every_link_picture_script_and_anchor_is_there(built, links):
    _, html = built
    broken, followed = [], 0
    for name, page in links.items():
        for target in page.targets:
            parts = urlsplit(urljoin(f"file:///{name}", target))
            if parts.scheme != "file":
                continue
            followed += 1
            found = unquote(parts.path).lstrip("/")
            anchor = unquote(parts.fragment)
            if not (html / found).is_file() or (anchor and found in links and anchor not in links[found].names):
                broken.append(f"{name} -> {target}")
    assert not broken, "\n".join(broken[:20])
    assert followed > 50 * len(links)


def test_a_chapter_downloads_as_the_notebook_that_was_executed(built, links):
    study, html = built
    for marker in study.markers:
        for chapter in CHAPTERS:
            page = links[f"notebooks/{marker.lower()}/{chapter}.html"]
            (target,) = {one for one in page.targets if one.endswith(".ipynb") and not urlsplit(one).scheme}
            notebook = nbformat.read(html / "notebooks" / marker.lower() / target, as_version=4)
            assert any(cell.get("outputs") for cell in notebook.cells)


def test_launch_buttons_open_the_committed_notebook_and_an_issue_names_page_and_notebook(built, links):
    study, _ = built
    for marker in study.markers:
        for chapter in CHAPTERS:
            name = f"notebooks/{marker.lower()}/{chapter}.html"
            launch = [one for one in links[name].targets if re.match("https://(mybinder|colab)", one)]
            assert len(launch) == 2
            for link in launch:
                assert unquote(link).endswith(f"/notebooks/{chapter}.ipynb")
                assert (REPOSITORY / "notebooks" / f"{chapter}.ipynb").is_file()
            (issue,) = (one for one in links[name].targets if "/issues/new" in one)
            told = parse_qs(urlsplit(issue).query)
            assert told["title"] == [f"Issue on page /{name}"]
            assert f"notebooks/{chapter}.ipynb" in told["body"][0]


def test_an_issue_on_any_page_names_a_page_that_is_there(links, pages):
    for name, page in links.items():
        for link in page.targets:
            if "/issues/new" in link:
                assert parse_qs(urlsplit(link).query)["title"][0].partition("page /")[2] == name


@pytest.mark.parametrize("name", READ)
def test_on_a_phone_the_menu_and_the_contents_open_and_lead_on(window, built, name):
    address = (built[1] / name).as_uri()
    page = window(PHONE)
    page.goto(address)
    menu = page.get_by_role("navigation", name="Main").get_by_role("link", name="Virtual tissue", exact=True)
    assert not menu.is_visible()
    page.locator(".primary-toggle:visible").tap()
    menu.tap()  # fails unless it is seen, at rest, and under nothing else
    page.wait_for_url("**/book/virtual_tissue.html")

    page.goto(address)
    contents = page.locator(".page-toc a:visible")
    assert not contents.count()
    page.locator(".secondary-toggle:visible").tap()
    link = contents.last
    anchor = link.get_attribute("href")
    link.tap()
    page.wait_for_url(f"**{anchor}")
    assert page.locator(f"[id='{anchor[1:]}']").bounding_box()["y"] < PHONE["height"]


@pytest.mark.parametrize("name", READ)
def test_on_a_desktop_the_menu_closes_and_opens_and_leads_on(window, built, name):
    page = window(DESKTOP)
    page.goto((built[1] / name).as_uri())
    menu = page.get_by_role("navigation", name="Main").get_by_role("link", name="Virtual tissue", exact=True)
    assert menu.is_visible() and page.locator(".page-toc a:visible").count()
    assert page.get_by_role("button", name="Search").filter(visible=True).count() == 1
    toggle = page.locator(".primary-toggle:visible")
    toggle.click()
    menu.wait_for(state="hidden")
    toggle.click()
    menu.click()
    page.wait_for_url("**/book/virtual_tissue.html")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_the_map_of_the_package_can_be_read_and_opens_the_wings(window, built, size, scheme):
    page = window(size, scheme)
    page.goto((built[1] / "book/api.html").as_uri())
    for box in page.evaluate(BOXES):
        assert box["fits"], f"{box['name']} is wider than its box"
        assert box["px"] >= 11, f"{box['name']}: letters of {box['px']} px"
        assert _contrast(*box["colours"]) >= 4.5, f"{box['name']}: {box['colours']}, {scheme}"
    page.locator("figure.wings a", has_text="models").click()
    page.wait_for_url("**/book/api/models.html")


def _contrast(*colours):
    """The ratio of WCAG 2 between two colours as a browser computes them, `rgb(r, g, b)`."""
    lights = []
    for colour in colours:
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        lights.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05)
    return max(lights) / min(lights)


def _panes(page):
    """What the panes of the viewer show: a canvas with pictures from a disk may be seen, but not read."""
    shots = [pane.screenshot() for pane in page.locator(".hsa-pane").all()]
    return [np.asarray(Image.open(io.BytesIO(shot)).convert("L")) for shot in shots]


def _drawn(page):
    """The panes once each of them shows a picture, and it has come to rest."""
    before = []
    for _ in range(60):
        panes = _panes(page)
        shown = panes and all(len(np.unique(pane)) > 100 for pane in panes)
        if shown and len(before) == len(panes) and all(map(np.array_equal, before, panes)):
            return panes
        before = panes
        page.wait_for_timeout(250)
    raise AssertionError(f"{page.url}: a pane of the viewer stays blank, or does not rest")


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_slides_can_be_looked_into_from_a_disk_by_the_keyboard_alone(window, built, size):
    study, html = built
    page = window(size)
    page.goto((html / "book/look.html").as_uri())
    before = _drawn(page)
    assert not page.locator("#fig-slides img").first.is_visible()
    names = page.locator("#hsa-case option").all_text_contents()
    assert all(any(name.startswith(f"{marker}: C") for name in names) for marker in study.markers)

    page.locator(".hsa-pane .openseadragon-canvas").first.focus()
    for key in ("Equal", "Equal", "ArrowRight"):
        page.keyboard.press(key)
    closer = _drawn(page)  # both, though one has the focus
    assert not any(map(np.array_equal, before, closer))
    page.get_by_role("button", name="Show the whole section").press("Enter")
    assert all(np.abs(a.astype(int) - b).mean() < 1 for a, b in zip(before, _drawn(page), strict=True))

    tiles = page.locator(".hsa-pane [data-layer=tiles]").first
    assert tiles.evaluate("one => one.style.display") == "none"
    page.get_by_label("tiles", exact=True).press("Space")
    assert tiles.evaluate("one => one.style.display") == ""

    for name in names:
        page.get_by_label("Case", exact=True).select_option(label=name)
        _drawn(page)
        assert page.locator(".hsa-says").inner_text()
        assert page.locator(".hsa-pane svg").count() == page.locator(".hsa-pane").count()


def test_every_page_tells_how_its_numbers_were_made(built, links, pages):
    study, _ = built
    stamp = json.loads(study.paths.summary.read_text())["stamp"]
    for name in (name for name in pages if name.startswith(("book/", "notebooks/")) and not links[name].moved):
        assert pages[name].count(f"fingerprint {stamp}") == 1, name


def test_a_word_of_the_glossary_shows_its_meaning_where_it_stands(pages):
    found = {link for text in pages.values() for link in re.findall(r'<a [^>]*href="[^"]*#term-[^>]*>', text)}
    used = {link for link in found if "headerlink" not in link and "reference" in link}
    assert len(used) > 10
    assert all(re.search(r'title="[^"]{20,}"', link) for link in used), sorted(used)[:3]
    assert any('title="A square cut from a slide' in link for link in used)


def test_print_and_a_reader_without_scripts_see_a_picture_of_slides(browser, window, built):
    address = (built[1] / "book/look.html").as_uri()
    page = window(DESKTOP)
    page.goto(address)
    page.emulate_media(media="print")
    assert page.locator("#fig-slides img").first.is_visible() and not page.locator(".hsa-viewer").is_visible()
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address)
    assert page.locator("#fig-slides img").first.is_visible()
    context.close()


def test_pages_fit_their_window_load_nothing_from_elsewhere_and_log_no_error(window, built, links):
    _, html = built
    page = window(PHONE)
    faults, now = [], ""

    def fault(what):
        faults.append(f"{now}: {what}")

    page.on("request", lambda r: r.url.startswith(("file:", "data:", "blob:")) or fault(f"asks for {r.url}"))
    page.on("requestfailed", lambda r: fault(f"does not get {r.url}"))
    page.on("console", lambda m: m.type == "error" and fault(m.text))
    page.on("pageerror", lambda e: fault(str(e)))
    for name in sorted(name for name, known in links.items() if not known.moved):
        for size in (PHONE, ENLARGED, DESKTOP):
            now = f"{name} at {size['width']} px"
            page.set_viewport_size(size)
            if size is PHONE:
                page.goto((html / name).as_uri())
            look = page.evaluate(LOOK)
            if look["beyond"] > 0:
                fault(f"scrolls sideways by {look['beyond']} px")
            for table in look["cut"]:
                fault(f"cuts off {table}")
            if size is PHONE:  # the theme takes its time after a change of size
                for box in look["unreachable"]:
                    fault(f"scrolls, but not by the keyboard: {box}")
                for box in look["misled"]:
                    fault(f"says that it scrolls and does not, or scrolls and does not say so: {box}")
    assert not faults, "\n".join(faults[:30])

"""The page in headless Chromium: real clicks and keys, found by role and name, and no request to any other host."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from made_images import encoded
from PIL import Image
from raw_products import PricedSource, row
from running import KEY, running, save_tagged_run

import e2fashion
from e2fashion.data.catalogue import Catalogue
from e2fashion.data.config import Preparation
from e2fashion.data.prepare import prepare_catalogue
from e2fashion.encoder import Encoder

pytestmark = [pytest.mark.slow, pytest.mark.browser]
PRODUCTS = 30
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
QUERY = "a red dress"
#: Focusable elements that are shown, with what a screen reader calls them.
CONTROLS = """() => [...document.querySelectorAll("a[href], button, input, select, meter, canvas, [tabindex='0']")]
    .filter((each) => each.checkVisibility())
    .map((each) => [each.outerHTML.slice(0, 120),
      (each.ariaLabel || [...(each.labels ?? [])].map((label) => label.textContent).join(" ")
        || each.textContent || each.querySelector("img")?.alt || "").trim()])"""
#: The lowest contrast of the texts that are shown, by the formula of WCAG; here no text is drawn on an image.
CONTRAST = """() => {
  const light = (color) => {
    const [r, g, b] = color.match(/[0-9.]+/g).slice(0, 3).map((part) => part / 255)
      .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (each) => {
    for (; each; each = each.parentElement) {
      const color = getComputedStyle(each).backgroundColor;
      if (!/, 0\\)$/.test(color)) return color;
    }
    return "rgb(255, 255, 255)";
  };
  const texts = [...document.querySelectorAll("main *, header *, dialog[open] *")].filter((each) =>
    each.checkVisibility() && [...each.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim()));
  return Math.min(...texts.map((each) => {
    const [a, b] = [light(getComputedStyle(each).color), light(ground(each))].sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05);
  }));
}"""


@pytest.fixture(scope="module")
def folder(browser: Any, synth_catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with tags, and an index of products with prices; nothing is made without a browser."""
    place = tmp_path_factory.mktemp("page")
    encoder = save_tagged_run(synth_catalogue, place / "run")
    samples = [sample for sample in synth_catalogue.samples("train") if sample.view == 0][:PRODUCTS]
    rows = [
        row(
            number,
            product_id=sample.product_id,
            image=sample.image,
            description=sample.description,
            tags={"brand": sample.tags["brand"], "price": f"{5 * number},50 €"},
            split="test",
        )
        for number, sample in enumerate(samples)
    ]
    prepare_catalogue(PricedSource(rows), place / "catalogue", Preparation(numbers=["price"]), progress=False)
    e2fashion.build_index(encoder, place / "catalogue", place / "index", progress=False)
    return place


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Encoder:
    return e2fashion.load_encoder(str(folder / "run"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, which resolves no other host."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    program = os.environ.get("E2FASHION_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("needs Chromium: apt install chromium, or name it in E2FASHION_CHROMIUM")
    with playwright.sync_playwright() as started:
        arguments = ["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
        browser = started.chromium.launch(executable_path=program, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    with running(folder, "demo", "run", "run", "index=index", "index_b=index", "name_b=other") as (client, _):
        yield f"http://127.0.0.1:{client.port}/"


@dataclass
class Visit:
    """The opened page, and what it has asked for and complained about."""

    page: Any
    requests: list[str]
    complaints: list[str]


@pytest.fixture
def visit(request: pytest.FixtureRequest, browser: Any, address: str) -> Iterator[Visit]:
    """The page with the service's key; at its end nothing has gone wrong and no other host was asked."""
    options = getattr(request, "param", {"viewport": DESKTOP, "color_scheme": "light"})
    context = browser.new_context(**options)
    requests: list[str] = []
    complaints: list[str] = []
    context.on("request", lambda sent: requests.append(sent.url))
    page = context.new_page()
    page.set_default_timeout(30_000)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(address)
    page.get_by_label("Key of this service").fill(KEY)
    page.keyboard.press("Enter")
    page.get_by_text(f"run ({PRODUCTS} products) and other ({PRODUCTS} products)").wait_for()
    yield Visit(page, requests, complaints)
    assert complaints == []
    hosts = {urlsplit(url).netloc for url in requests if not url.startswith(("data:", "blob:"))}
    assert hosts == {urlsplit(address).netloc}
    context.close()


def ask(page: Any, text: str, filters: str = "") -> None:
    """Type a query, press Enter, and wait for the answer."""
    page.get_by_role("searchbox", name="Text").fill(text)
    page.get_by_role("textbox", name="Filters").fill(filters)
    page.keyboard.press("Enter")
    page.get_by_text(re.compile(rf"^\d+ of {PRODUCTS} products$")).wait_for()


def found(page: Any, model: str = "run") -> list[str]:
    """The names of the hits in a model's column."""
    hits = page.get_by_role("region", name=model).get_by_role("button", name=re.compile(r"^\d+\. "))
    return [re.sub(r"^\d+\. ", "", hit.get_attribute("aria-label")) for hit in hits.all()]


def test_a_visitor_searches_filters_and_opens_a_product(visit: Visit, encoder: Encoder, folder: Path) -> None:
    page, index = visit.page, e2fashion.open_index(folder / "index", encoder)
    ask(page, QUERY)
    expected = index.search(QUERY, top=12)
    assert found(page) == found(page, "other") == [hit.description for hit in expected]
    ask(page, QUERY, "price=10..50")
    cheap = index.search(QUERY, where={"price": "10..50"}, top=12)
    assert found(page) == [hit.description for hit in cheap]
    assert 0 < len(cheap) < 12
    brand = next(hit.tags["brand"] for hit in cheap if "brand" in hit.tags)
    page.get_by_role("region", name="run").get_by_role("button", name=str(brand), exact=True).first.click()
    page.get_by_text(re.compile(rf"^[1-9] of {PRODUCTS} products$")).wait_for()
    of_brand = index.search(QUERY, where={"price": "10..50", "brand": brand}, top=12)
    page.get_by_role("region", name="run").get_by_role("button", name=re.compile(rf"^{len(of_brand)}\. ")).wait_for()
    assert found(page) == [hit.description for hit in of_brand]
    assert f"brand={brand}" in page.get_by_role("textbox", name="Filters").input_value()
    page.get_by_role("region", name="run").get_by_role("button", name=re.compile(r"^1\. ")).click()
    dialog = page.get_by_role("dialog", name=of_brand[0].product_id)
    dialog.get_by_role("rowheader", name="brand").first.wait_for()
    dialog.get_by_text("not sure; nearest:").first.wait_for()
    dialog.get_by_role("button", name="Show", exact=True).click()
    dialog.get_by_role("img", name=re.compile(re.escape(of_brand[0].description or ""))).first.wait_for()
    page.keyboard.press("Escape")
    dialog.wait_for(state="hidden")
    ask(page, QUERY, "brand=Nobody")
    page.get_by_text("No product fulfils the filters.").first.wait_for()
    ask(page, QUERY)


def test_an_image_of_ones_own_is_labelled_and_searched(visit: Visit, encoder: Encoder, folder: Path) -> None:
    page, photo = visit.page, Image.new("RGB", (48, 40), "red")
    file = {"name": "mine.png", "mimeType": "image/png", "buffer": encoded(photo, "PNG")}
    page.get_by_label("Image", exact=True).set_input_files(file)
    page.get_by_role("img", name="The image of the query").wait_for()
    page.get_by_role("slider", name=re.compile("Share of the text")).wait_for()
    page.get_by_role("button", name="Inspect", exact=True).click()
    dialog = page.get_by_role("dialog", name="Your image")
    dialog.get_by_role("textbox", name="Labels").fill("striped socks, raincoat, hat")
    page.keyboard.press("Enter")
    for label in ("striped socks", "raincoat", "hat"):
        dialog.get_by_role("rowheader", name=label).first.wait_for()
    dialog.get_by_role("button", name="Close", exact=True).click()
    dialog.wait_for(state="hidden")
    page.get_by_role("button", name="Search", exact=True).click()
    page.get_by_text(re.compile(rf"^12 of {PRODUCTS} products$")).wait_for()
    index = e2fashion.open_index(folder / "index", encoder)
    assert (
        len(set(found(page)) & {hit.description for hit in index.search(image=photo, top=12)}) >= 10
    )  # it is a JPEG now
    page.get_by_label("Image", exact=True).set_input_files({**file, "name": "text.png", "buffer": b"no image"})
    page.get_by_text("this file is not an image that the browser can read").wait_for()


def test_the_keyboard_reaches_everything_and_everything_has_a_name(visit: Visit) -> None:
    page = visit.page
    page.reload()
    page.get_by_text(f"run ({PRODUCTS} products)").wait_for()
    named = []
    for _ in range(6):
        page.keyboard.press("Tab")
        named.append(page.evaluate("() => document.activeElement.id || document.activeElement.textContent.trim()"))
    assert named == ["Skip to the results", "text", "image", "where", "top", "Search"]
    page.get_by_role("searchbox", name="Text").focus()
    page.keyboard.insert_text(QUERY)
    page.keyboard.press("Enter")
    hit = page.get_by_role("region", name="run").get_by_role("button", name=re.compile(r"^1\. "))
    hit.wait_for()
    hit.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("rowheader", name="brand").first.wait_for()
    assert page.evaluate("() => document.activeElement.closest('dialog') !== null"), "the focus is in the dialog"
    dialog.get_by_role("textbox", name="Labels").focus()
    page.keyboard.press("Enter")
    dialog.get_by_role("rowheader", name="trousers").first.wait_for()
    nameless = [element for element, name in page.evaluate(CONTROLS) if not name]
    assert nameless == []
    page.keyboard.press("Escape")
    dialog.wait_for(state="hidden")
    assert page.evaluate("() => document.activeElement.ariaLabel").startswith("1. "), "the focus is where it was"


LOOKS = [
    pytest.param({"viewport": size, "color_scheme": scheme}, id=f"{name}-{scheme}")
    for name, size in (("desktop", DESKTOP), ("phone", PHONE))
    for scheme in ("light", "dark")
]


@pytest.mark.parametrize("visit", LOOKS, indirect=True)
def test_it_fits_and_can_be_read(visit: Visit, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Screenshots lie in the folder of the test; nothing is wider than the screen."""
    page = visit.page
    ask(page, QUERY, "price=10..90")
    for name in ("results", "product"):
        if name == "product":
            page.get_by_role("region", name="run").get_by_role("button", name=re.compile(r"^1\. ")).click()
            page.get_by_role("dialog").get_by_role("rowheader", name="brand").first.wait_for()
        page.screenshot(path=str(tmp_path / f"{name}.png"))
        widths = page.evaluate("() => [document.documentElement.scrollWidth, innerWidth]")
        assert widths[0] <= widths[1]
        assert page.evaluate(CONTRAST) >= 4.5
    ground = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    dark = request.node.callspec.params["visit"]["color_scheme"] == "dark"
    assert (sum(map(int, re.findall(r"\d+", ground)[:3])) < 3 * 128) == dark


@pytest.mark.parametrize("visit", [LOOKS[0], LOOKS[3]], indirect=True)
def test_axe_finds_no_barrier(visit: Visit) -> None:
    """axe-core's rules in every state of the page: before a search, with results, and with a product opened."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs pip install axe-playwright-python")
    page = visit.page
    for state in ("start", "results", "product"):
        if state == "results":
            ask(page, QUERY, "price=10..90")
        elif state == "product":
            page.get_by_role("region", name="run").get_by_role("button", name=re.compile(r"^1\. ")).click()
            dialog = page.get_by_role("dialog")
            dialog.get_by_role("button", name="Show", exact=True).click()
            dialog.get_by_role("button", name="Classify", exact=True).click()
            dialog.get_by_role("rowheader", name="trousers").first.wait_for()
        found = axe.Axe().run(page)
        assert found.violations_count == 0, f"{state}: {found.generate_report()}"

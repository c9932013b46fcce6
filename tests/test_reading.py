"""Finding one's way: reading order, search, other sites, paper, a copy on the disk, a wrong address."""

import itertools
import json
import mimetypes
import re
from html import unescape
from urllib.parse import urljoin, urlsplit

import nbformat
import pytest
import yaml

from proofread.signatures import gradients_of
from tests.checks import HERE, ROOT, build, module_of, paths

DERIVATIONS = sorted((ROOT / "docs/derivations").glob("*.md"))
# The page that holds all others, and is itself in no list.
EVERYTHING = "everything/"


def front_matter(page):
    return yaml.safe_load(page.read_text().split("---\n")[1])


def text(site, path=""):
    return (site / path / "index.html").read_text(encoding="utf-8")


def metas(html):
    """Return the content of each named meta element of a page."""
    found = re.findall(r'<meta (?:name|property)="([^"]*)" content="([^"]*)"', html)
    return {name: unescape(content) for name, content in found}


def footer_link(html, way):
    pattern = (
        rf'<a href="([^"]*)" class="md-footer__link md-footer__link--{way}" aria-label="([^"]*)"'
    )
    found = re.search(pattern, html)
    return found and found.groups()


def navigation(site):
    """Return address and name of each page in the list at the left, in its order."""
    html = text(site).split('data-md-level="0"')[1].split("</nav>\n</div>")[0]
    found = re.findall(r'<a href="([^"]*)" class="md-nav__link[^"]*">(.*?)</a>', html, re.DOTALL)
    named = {urljoin("/", href): re.sub(r"<[^>]*>|\s+", " ", name) for href, name in found}
    return [(href, " ".join(name.split())) for href, name in named.items() if "#" not in href]


# Without a browser


def test_next_leads_through_all_pages_and_previous_back(site):
    order = navigation(site)
    assert len(order) >= 13 and order[0] == ("/", "Home")
    assert {href.lstrip("/") for href, _ in order} == set(paths(site)) - {EVERYTHING}
    for (here, name), (there, next_name) in itertools.pairwise(order):
        href, label = footer_link(text(site, here.lstrip("/")), "next")
        assert (urljoin(here, href), label) == (there, f"Next: {next_name}")
        href, label = footer_link(text(site, there.lstrip("/")), "prev")
        assert (urljoin(there, href), label) == (here, f"Previous: {name}")
    assert footer_link(text(site), "prev") is None
    assert footer_link(text(site, order[-1][0].lstrip("/")), "next") is None


def test_each_page_describes_itself(site):
    described = {}
    for path in paths(site):
        found = metas(text(site, path))
        described[path] = found["description"]
        assert 50 <= len(found["description"]) <= 160, path
        assert found["og:description"] == found["description"]
        assert found["og:title"] and found["og:type"] and found["twitter:card"]
        # An address that is not absolute is no use to another site.
        assert all(found[k].startswith("http") for k in ("og:url", "og:image") if k in found)
    assert len(set(described.values())) == len(described)


@pytest.mark.parametrize("page", DERIVATIONS, ids=lambda p: p.stem)
def test_tags_are_the_gradients_of_the_page(page):
    """They lead the search to the page that derives a gradient, before those that use it."""
    if page.stem in {"network", "layers"}:
        assert "tags" not in front_matter(page), "it uses what other pages derive"
    else:
        derived = {f"dJ_d{gradient.wrt}" for gradient in gradients_of(module_of(page.stem))}
        assert set(front_matter(page)["tags"]) == derived


def test_everything_is_on_one_page(site):
    html = text(site, EVERYTHING)
    order = navigation(site)
    sections = re.findall(r'<section class="whole-page" id="([^"]*)">', html)
    assert len(sections) == len(order)
    titles = re.findall(r"<h1[^>]*>(.*?)<", html.split("whole-page", 1)[1])
    assert titles == [re.search(r"<h1[^>]*>(.*?)<", text(site, h.strip("/")))[1] for h, _ in order]
    assert html.count("<math") == sum(text(site, h.strip("/")).count("<math") for h, _ in order)
    ids = re.findall(r'\sid="([^"]*)"', html)
    assert len(ids) == len(set(ids)) > 200
    assert metas(html)["robots"] == "noindex"
    # A link between two pages is a link within this one.
    assert not re.search(
        r'href="(\.\./)*derivations/', html.split("whole-page", 1)[1].split("</article>")[0]
    )
    index = json.loads((site / "search/search_index.json").read_text())
    assert not any(entry["location"].startswith("everything") for entry in index["docs"])
    assert any(entry["location"].startswith("derivations/linear/#") for entry in index["docs"])


def test_a_wrong_address_shows_the_way(site):
    html = (site / "404.html").read_text()
    article = html.split("<article")[1].split("</article>")[0]
    links = [urljoin("/", urlsplit(h).path) for h in re.findall(r'href="([^"]*)"', article)]
    assert all(h.startswith("/") for h in re.findall(r'href="([^"]*)"', article))
    base = links[0]
    assert {base + href.lstrip("/") for href, _ in navigation(site)} <= set(links)
    assert f'href="{base}?q="' in article
    loaded = re.findall(r'<(?:link[^>]*href|script[^>]*src)="([^"]*)"', html)
    assert loaded and all(url.startswith("/") for url in loaded)
    assert metas(html)["robots"] == "noindex"


@pytest.mark.parametrize("page", DERIVATIONS, ids=lambda p: p.stem)
def test_a_derivation_links_its_notebook(site, page):
    html = text(site, f"derivations/{page.stem}")
    [href] = re.findall(r'<a download="[^"]*" href="([^"]*)">This page as a notebook', html)
    file = (site / "derivations" / page.stem / href).resolve()
    nbformat.validate(nbformat.read(file, as_version=4))


# In the browser


def search(page, words):
    """Type into the search as a reader does; return the addresses found, best first."""
    field = page.locator("[data-md-component=search-query]")
    page.keyboard.press("Escape")
    field.fill("")
    field.press("Space")
    page.wait_for_function("!document.querySelector('.md-search-result__item')")
    # One question, asked by the last key: while words are typed, an answer to half of them may come late.
    field.fill(words)
    field.press("End")
    page.wait_for_selector(".md-search-result__item", state="attached")
    links = page.locator(".md-search-result__item > a, .md-search-result__item > article > a")
    return [urlsplit(link.get_attribute("href")).path for link in links.all()]


FOUND = {
    "dJ_dW": "linear", "bias gradient": "linear", "dJ/dW": "linear", "grad_W": "linear",
    "dJ_db": "linear", "X.T @ dJ_dZ": "linear", "relu derivative": "relu", "dJ_dZ": "relu",
    "torch.relu": "relu", "dJ_dA": "mse", "mean squared error": "mse",
}  # fmt: skip


@pytest.mark.slow
def test_search_finds_code_and_words(browser, address):
    page = browser.new_page()
    page.goto(address)
    first = {words: search(page, words)[0] for words in FOUND}
    page.close()
    assert first == {words: f"/derivations/{layer}/" for words, layer in FOUND.items()}


def test_the_code_of_one_result_leaves_room_for_the_next(browser, address):
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.goto(address)
    page.locator("label[for=__search].md-header__button").click()
    page.locator(".md-search__input").press_sequentially("dJ_dW")
    code = page.locator(".md-search-result__article pre:visible")
    code.first.wait_for()
    heights = code.evaluate_all("found => found.map(box => box.clientHeight)")
    page.close()
    assert heights and max(heights) < 100


@pytest.mark.slow
def test_the_copy_button_gives_code_that_runs(browser, address):
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.goto(f"{address}derivations/relu/")
    block = page.locator(".language-python", has_text="def grad_Z(").first
    block.hover()
    block.locator("[data-clipboard-target], .md-code__button").first.click()
    page.wait_for_function("async () => (await navigator.clipboard.readText()).includes('def ')")
    code = page.evaluate("navigator.clipboard.readText()")
    context.close()
    names = {}
    exec(code, names)  # noqa: S102
    Z, upstream = names["torch"].tensor([[-1.0, 2.0]]), names["torch"].tensor([[3.0, 4.0]])
    assert names["grad_Z"](Z, upstream).tolist() == [[0.0, 4.0]]


@pytest.mark.slow
@pytest.mark.parametrize("script", [True, False], ids=["script", "no script"])
def test_the_notebook_is_downloaded(browser, address, script):
    context = browser.new_context(accept_downloads=True, java_script_enabled=script)
    page = context.new_page()
    page.goto(f"{address}derivations/linear/")
    with page.expect_download() as download:
        page.get_by_text("This page as a notebook").click()
    assert download.value.suggested_filename == "linear.ipynb"
    nbformat.validate(nbformat.read(download.value.path(), as_version=4))
    context.close()


@pytest.mark.slow
@pytest.mark.parametrize("path", ["derivations/linear/", "derivations/network/", EVERYTHING])
def test_paper_is_white_and_cuts_nothing(browser, address, path):
    """As wide as A4 within its margins; the reader's screen is dark."""
    context = browser.new_context(viewport={"width": 673, "height": 980}, color_scheme="dark")
    page = context.new_page()
    page.goto(address + path)
    page.emulate_media(media="print", color_scheme="dark")
    colours = page.evaluate(
        "['backgroundColor', 'color', 'colorScheme'].map(c => getComputedStyle(document.body)[c])"
    )
    assert colours == ["rgb(255, 255, 255)", "rgba(0, 0, 0, 0.87)", "light"]
    for hidden in (".md-header", ".md-sidebar", ".md-footer", ".as-notebook", ".proof"):
        assert not any(element.is_visible() for element in page.locator(hidden).all()[:3]), hidden
    cut = page.evaluate("""
        [...document.querySelectorAll("div.arithmatex math, pre > code, table, figure, svg")]
            .filter(e => e.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
            .map(e => e.textContent.slice(0, 60))
    """)
    assert cut == []
    assert page.pdf(format="A4").startswith(b"%PDF")
    context.close()


def host(context, folder):
    """Answer a browser's requests to HERE from a folder; return what it asks elsewhere for."""
    elsewhere = []

    def answer(route):
        address = route.request.url
        if not address.startswith(HERE):
            elsewhere.append(address)
            return route.abort()
        path = folder / urlsplit(address).path.removeprefix("/site/")
        path = path / "index.html" if path.is_dir() else path
        status, path = (200, path) if path.is_file() else (404, folder / "404.html")
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        return route.fulfill(status=status, body=path.read_bytes(), content_type=kind)

    context.route("**/*", answer)
    return elsewhere


@pytest.mark.slow
def test_published_it_says_where_it_is(published):
    found = metas(text(published, "derivations/linear"))
    assert found["og:url"] == f"{HERE}derivations/linear/"
    assert found["og:image"] == f"{HERE}assets/cards/derivations/linear.png"
    html = text(published, "derivations/linear")
    assert "/github/someone/gradients/blob/main/docs/notebooks/derivations/linear.ipynb" in html
    assert 'href="../../offline.zip"' in html


def test_unpublished_it_promises_nothing(site):
    for path in paths(site):
        assert "offline.zip" not in text(site, path)
        assert "colab.research" not in text(site, path)


@pytest.mark.slow
def test_pages_follow_each_other_without_loading_anew(browser, published):
    context = browser.new_context()
    elsewhere = host(context, published)
    page = context.new_page()
    page.goto(f"{HERE}derivations/relu/")
    page.evaluate("window.stays = true")
    page.locator(".md-footer__link--next").click()
    page.wait_for_url(f"{HERE}derivations/linear/")
    page.wait_for_selector("h1#linear-layer")
    assert page.evaluate("window.stays")
    assert page.locator("math").count() > 60
    assert page.locator("div.arithmatex math").first.bounding_box()["height"] > 20
    page.go_back()
    page.wait_for_selector("h1#relu")
    context.close()
    assert elsewhere == []


@pytest.mark.slow
def test_a_wrong_address_at_any_depth_has_style_and_search(browser, published):
    context = browser.new_context()
    elsewhere = host(context, published)
    page = context.new_page()
    response = page.goto(f"{HERE}derivations/linar/deeper/")
    assert response.status == 404
    assert (
        page.evaluate("getComputedStyle(document.querySelector('.md-header')).position") == "sticky"
    )
    page.locator("article").get_by_text("search", exact=True).click()
    page.wait_for_url(f"{HERE}?q=")
    page.wait_for_function("document.querySelector('#__search').checked")
    page.keyboard.type("dJ_dW")
    page.wait_for_selector(".md-search-result__item")
    context.close()
    assert elsewhere == []


@pytest.mark.slow
def test_a_copy_on_the_disk_needs_no_network(browser, tmp_path):
    folder = build(tmp_path / "copy", OFFLINE="true")
    context = browser.new_context()
    page = context.new_page()
    requests, errors = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto((folder / "index.html").as_uri())
    page.locator(".md-footer__link--next").click()
    page.goto((folder / "derivations/linear.html").as_uri())
    assert page.locator("math").count() > 60
    assert page.evaluate(
        "document.fonts.ready.then(() => [...document.fonts].some(font => font.status === 'loaded'))"
    )
    found = search(page, "bias gradient")
    assert found[0].endswith("/derivations/linear.html")
    page.locator(".md-search-result__item a").first.click()
    page.wait_for_selector("h1#linear-layer")
    context.close()
    assert errors == []
    assert [url for url in requests if not url.startswith(("file:", "data:", "blob:"))] == []

"""The /ui page in a real browser, on a real service: search, paging, outage, hostile texts, small screens."""

from __future__ import annotations

import re
import shutil
import signal
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import httpx
import pytest
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.chrome.service import Service as Driver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

from knowledgebeast_service.api.keys import new_key

if TYPE_CHECKING:
    from conftest import Chroma, Service

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    BROWSER is None or DRIVER is None,
    reason="no Chromium with its driver here: `hack/setup.sh --with-browser` installs them as root on Debian",
)

FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1280,900")
HOSTILE = "<script>document.title='broken'</script><img src=x onerror=\"document.title='broken'\">"
PAGE_SECONDS = 40  # a bound: on a busy machine a page takes seconds
PAGES = ("/ui", "/ui/projects", "/ui/health", "/ui/key", "/ui/document?project=papers&id=absent", "/ui?q=fox")


@pytest.fixture(scope="module")
def service(make_service: Callable[..., Service], chroma: Chroma) -> Service:
    started = make_service("ui", CHROMA_URL=chroma.url)
    started.start()
    numbered = {f"paper-{n:02}": f"Paper {n} of the series about foxes and hedges." for n in range(23)}
    answer = started.ingest("papers", numbered | {"hostile": f"An attack: {HOSTILE} end of the attack."})
    assert answer["status"] == "indexed", answer
    httpx.post(f"{started.url}/api/v1/projects", json={"name": "empty"}).raise_for_status()
    return started


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(BROWSER)
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options=options, service=Driver(DRIVER))
    yield opened
    opened.quit()


@contextmanager
def new_page(browser: webdriver.Chrome) -> Generator[None]:
    """Leave the block when the page that a key or a click in it brings is there.

    Neither waits for it: a key never, and a click only for a navigation that has begun when it returns.
    """
    before, _ = page_shown(browser)

    def is_there(_: webdriver.Chrome) -> bool:
        begun, state = page_shown(browser)
        return begun != before and state == "complete"

    yield
    # The old page goes away between two steps of the driver: that is an error of it, and no answer.
    WebDriverWait(browser, PAGE_SECONDS, 0.05, ignored_exceptions=(WebDriverException,)).until(is_there)


def page_shown(browser: webdriver.Chrome) -> tuple[float, str]:
    """(when the navigation to the page began, which no two pages share; how far it is loaded)."""
    begun, state = browser.execute_script(  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        "return [performance.timeOrigin, document.readyState]"
    )
    return float(begun), str(state)  # pyright: ignore[reportUnknownArgumentType]


def follow(browser: webdriver.Chrome, selector: str) -> None:
    with new_page(browser):
        browser.find_element(By.CSS_SELECTOR, selector).click()


def texts(browser: webdriver.Chrome, selector: str) -> list[str]:
    return [element.text for element in browser.find_elements(By.CSS_SELECTOR, selector)]


def complaints(browser: webdriver.Chrome) -> list[str]:
    """What the browser's console says: a blocked script, a missing file."""
    log: list[dict[str, Any]] = browser.get_log("browser")  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return [str(entry["message"]) for entry in log]


def address(service: Service, **fields: object) -> str:
    return f"{service.url}/ui?{urlencode(fields)}"


def test_a_person_searches_by_keyboard_and_pages_through(service: Service, browser: webdriver.Chrome) -> None:
    browser.get(f"{service.url}/")
    assert browser.current_url == f"{service.url}/ui"
    browser.get(address(service, project="papers"))
    # The field has the focus: a person types and presses Enter.
    with new_page(browser):
        browser.switch_to.active_element.send_keys("foxes", Keys.ENTER)
    assert "Results 1–10 for foxes in papers" in browser.find_element(By.CLASS_NAME, "summary").text
    assert len(texts(browser, ".results li")) == 10
    assert all(re.fullmatch(r"-?\d+\.\d{3}", shown.split()[-1]) for shown in texts(browser, ".score"))
    seen = set(texts(browser, ".results h2"))
    follow(browser, "a[rel=next]")
    assert "Results 11–20" in browser.find_element(By.CLASS_NAME, "summary").text
    assert seen.isdisjoint(texts(browser, ".results h2"))
    follow(browser, "a[rel=prev]")
    assert set(texts(browser, ".results h2")) == seen


def test_mode_and_project_stay_chosen(service: Service, browser: webdriver.Chrome) -> None:
    browser.get(address(service, q="fox", project="papers", mode="keyword"))
    assert browser.find_element(By.CSS_SELECTOR, "input[name=mode]:checked").get_attribute("value") == "keyword"
    assert browser.find_element(By.NAME, "project").get_attribute("value") == "papers"


def test_hostile_text_is_shown_and_never_run(service: Service, browser: webdriver.Chrome) -> None:
    complaints(browser)
    browser.get(address(service, q=f"attack {HOSTILE}", project="papers", mode="keyword"))
    assert browser.find_element(By.NAME, "q").get_attribute("value") == f"attack {HOSTILE}"
    assert HOSTILE in browser.find_element(By.CLASS_NAME, "passage").text
    follow(browser, ".results h2 a")
    assert HOSTILE in browser.find_element(By.CLASS_NAME, "text").text
    browser.get(f"{service.url}/ui/document?{urlencode({'project': HOSTILE, 'id': HOSTILE})}")
    assert "broken" not in browser.title
    assert browser.find_elements(By.TAG_NAME, "script") == []
    assert [one for one in complaints(browser) if "status of 4" not in one] == []


def test_a_script_that_got_in_would_not_run(service: Service, browser: webdriver.Chrome) -> None:
    """The policy is the second wall: break the first one by hand and see."""
    browser.get(f"{service.url}/ui")
    browser.execute_script(  # pyright: ignore[reportUnknownMemberType]
        "const one = document.createElement('script'); one.textContent = \"document.title = 'broken'\";"
        "document.body.append(one)"
    )
    assert "broken" not in browser.title


def test_an_empty_project_and_an_empty_result_say_what_to_do(service: Service, browser: webdriver.Chrome) -> None:
    browser.get(address(service, q="fox", project="empty"))
    assert "knowledgebeast ingest" in browser.find_element(By.CLASS_NAME, "empty").text
    browser.get(address(service, q="zzzzqqqq", project="papers", mode="keyword"))
    with new_page(browser):
        browser.find_element(By.LINK_TEXT, "the same query in hybrid mode").click()
    assert texts(browser, ".results li")


def test_pages_need_no_other_host_and_show_no_error(service: Service, browser: webdriver.Chrome) -> None:
    complaints(browser)
    for path in PAGES:
        browser.get(service.url + path)
        loaded: list[str] = browser.execute_script(  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
            "return performance.getEntriesByType('resource').map(one => one.name)"
        )
        assert all(name.startswith(f"{service.url}/ui/static/") for name in loaded), loaded
    assert [one for one in complaints(browser) if "status of 4" not in one] == []


def test_the_api_page_needs_no_other_host_and_tries_a_call_out(service: Service, browser: webdriver.Chrome) -> None:
    complaints(browser)
    browser.get(f"{service.url}/docs")
    wait = WebDriverWait(browser, PAGE_SECONDS)
    call = wait.until(lambda page: page.find_element(By.ID, "operations-default-stats_api_v1_stats_get"))
    call.click()
    wait.until(lambda _: call.find_element(By.CSS_SELECTOR, ".try-out button")).click()
    wait.until(lambda _: call.find_element(By.CSS_SELECTOR, "button.execute")).click()
    answer = wait.until(
        lambda _: call.find_element(By.CSS_SELECTOR, ".live-responses-table tbody .response-col_status")
    )
    assert answer.text.startswith("200")
    loaded: list[str] = browser.execute_script(  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        "return performance.getEntriesByType('resource').map(one => one.name)"
    )
    assert f"{service.url}/openapi.json" in loaded
    assert all(name.startswith((f"{service.url}/", "data:")) for name in loaded), loaded
    assert complaints(browser) == []
    browser.execute_script(  # pyright: ignore[reportUnknownMemberType]
        "const one = document.createElement('script'); one.textContent = \"document.title = 'broken'\";"
        "document.body.append(one)"
    )
    assert "broken" not in browser.title, "a script that got in would not run beside the key"
    complaints(browser)


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_nothing_sticks_out_at_the_side(service: Service, browser: webdriver.Chrome, width: int) -> None:
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)  # pyright: ignore[reportUnknownMemberType]
    try:
        for path in (*PAGES, f"/ui?{urlencode({'q': 'x' * 400, 'project': 'papers'})}"):
            browser.get(service.url + path)
            wide = browser.execute_script("return document.documentElement.scrollWidth")  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
            assert wide <= width, path  # less by a scroll bar
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})  # pyright: ignore[reportUnknownMemberType]


def test_every_control_has_a_name_and_tab_reaches_it(service: Service, browser: webdriver.Chrome) -> None:
    browser.get(address(service, q="fox", project="papers"))
    for element in browser.find_elements(By.CSS_SELECTOR, "input, select, button, a, summary"):
        assert element.accessible_name, element.get_attribute("outerHTML")
    browser.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
    assert browser.switch_to.active_element.text == "Skip to content"


def test_an_outage_is_told_with_its_reason(
    service: Service, chroma: Chroma, browser: webdriver.Chrome, until: Callable[..., None]
) -> None:
    chroma.send(signal.SIGSTOP)
    try:
        until(lambda: service.health("chromadb") == "down", "the breaker opens")
        browser.get(address(service, q="hedges by name", project="papers"))
        banner = browser.find_element(By.CSS_SELECTOR, ".banner.warn").text
        assert "Degraded: answered by keyword only." in banner
        assert "Chroma" in banner
        assert texts(browser, ".results li")
        browser.get(f"{service.url}/ui/health")
        assert "Degraded" in browser.find_element(By.CSS_SELECTOR, ".banner").text
        assert "down" in texts(browser, ".parts .state")
    finally:
        chroma.send(signal.SIGCONT)
    until(lambda: service.health("chromadb") == "up", "Chroma is back")
    browser.get(f"{service.url}/ui/health")
    assert texts(browser, ".banner") == ["All parts work."]


def test_health_shows_the_figures(service: Service, browser: webdriver.Chrome) -> None:
    browser.get(f"{service.url}/ui/health")
    assert {"Database", "Keyword index", "Embedding model"} <= set(texts(browser, ".part strong"))
    assert {"Waiting for vectors", "Index lag", "Queries", "Memory"} <= set(texts(browser, ".tiles dt"))
    browser.get(f"{service.url}/ui/projects")
    assert texts(browser, "tbody tr:last-child > *")[:2] == ["papers", "24"]


def test_with_api_keys_the_page_shows_what_the_key_may_see(
    make_service: Callable[..., Service], chroma: Chroma, tmp_path: Path, browser: webdriver.Chrome
) -> None:
    admin, admin_entry = new_key("all", ["read", "write"], ["*"], None)
    reader, reader_entry = new_key("one", ["read"], ["mine"], None)
    keys = tmp_path / "keys.json"
    keys.write_text(f"[{admin_entry},{reader_entry}]")
    service = make_service("keyed", CHROMA_URL=chroma.url, API_KEYS_FILE=str(keys))
    service.start()
    for project in ("mine", "theirs"):
        body = {"project": project, "documents": [{"id": f"{project}-1", "text": f"A fox of {project}."}]}
        with httpx.Client(headers={"authorization": f"Bearer {admin}"}) as client:
            client.post(f"{service.url}/api/v1/ingest", json=body, timeout=30).raise_for_status()

    def give(key: str) -> None:
        with new_page(browser):
            browser.find_element(By.NAME, "key").send_keys(key, Keys.ENTER)

    for path in ("/ui", "/ui/projects", "/ui/health", "/ui?q=fox&project=mine"):
        browser.get(service.url + path)
        assert "needs an API key" in browser.find_element(By.TAG_NAME, "h1").text
        assert "mine" not in browser.find_element(By.TAG_NAME, "main").text
    give("kb_not-a-key")
    assert "not one of this service" in browser.find_element(By.CSS_SELECTOR, ".banner.bad").text
    give(reader)
    held: dict[str, Any] | None = browser.get_cookie(  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        "knowledgebeast_key"
    )
    assert held is not None
    assert (held["httpOnly"], held["sameSite"], held["path"]) == (True, "Strict", "/ui")
    browser.get(f"{service.url}/ui/projects")
    assert texts(browser, "tbody th") == ["mine"]
    browser.get(address(service, q="fox", project="mine", mode="keyword"))
    assert texts(browser, ".results h2") == ["mine-1"]
    browser.get(address(service, q="fox", project="theirs", mode="keyword"))
    assert "theirs-1" not in browser.page_source
    follow(browser, ".leave button")
    assert "needs an API key" in browser.find_element(By.TAG_NAME, "h1").text


def test_another_site_cannot_give_the_browser_a_key(service: Service) -> None:
    refused = httpx.post(
        f"{service.url}/ui/key", data={"key": "kb_somebody-elses"}, headers={"sec-fetch-site": "cross-site"}
    )
    assert (refused.status_code, refused.headers.get("set-cookie")) == (403, None)

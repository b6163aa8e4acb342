"""The page in a real browser: what an operator sees of workers that come, move bytes, and go; and what he can do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from tests.e2e import services
from tests.e2e.api import ApiServer
from tests.e2e.browser import chromium
from tests.e2e.harness import Lab, connect, echoes, exchange, poll


class Page:
    """One browser window on the page of one server."""

    def __init__(self, lab: Lab, language: str = "en-US") -> None:
        self.driver = chromium(lab, "--window-size=1400,1000", language=language)

    def open(self, api: ApiServer, fragment: str = "") -> None:
        self.driver.get("about:blank")
        self.driver.get(f"{api.url}/{fragment}")

    def all(self, selector: str) -> list[WebElement]:
        """What is shown now; what vanishes while we look is not."""
        try:
            return [
                each for each in self.driver.find_elements(By.CSS_SELECTOR, selector) if each.is_displayed()
            ]
        except StaleElementReferenceException:
            return self.all(selector)

    def one(self, selector: str, text: str = "") -> WebElement:
        """Wait for an element that is shown and has a text in it."""

        def look() -> WebElement | None:
            return next((each for each in self.all(selector) if text in self.text(each)), None)

        found = poll(f"{selector} {text!r} on the page", look)
        assert found is not None
        return found

    def text(self, element: WebElement) -> str:
        """All text inside, however it is laid out; "" for one that has just gone."""
        try:
            content: str = self.driver.execute_script("return arguments[0].textContent", element)
        except StaleElementReferenceException:
            return ""
        return content

    def gone(self, selector: str) -> None:
        poll(f"{selector} to vanish", lambda: not self.all(selector))

    def line(self, selector: str) -> str:
        """How a plot's line runs."""
        return str(
            self.driver.execute_script(
                "return document.querySelector(arguments[0]).getAttribute('d')", selector
            )
        )

    def complaints(self) -> list[str]:
        """What the browser itself finds wrong, refused connections aside."""
        lines = [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] != "DEBUG"]
        return [line for line in lines if "ERR_CONNECTION" not in line and "401" not in line]


@pytest.fixture(scope="module")
def browser() -> Iterator[Page]:
    lab = Lab()
    try:
        yield Page(lab)
    finally:
        lab.close()


@pytest.fixture
def page(browser: Page) -> Iterator[Page]:
    """The browser, empty; at the end nothing may have broken the policy or raised."""
    browser.driver.get_log("browser")
    yield browser
    complaints = browser.complaints()
    browser.driver.get("about:blank")
    assert not complaints


def test_a_worker_comes_moves_bytes_and_goes(lab: Lab, page: Page) -> None:
    api = ApiServer(lab)
    page.open(api)
    command = page.one("#empty code").text
    assert f":{api.link_port} " in command
    assert command.startswith("python3 aero.pyz client --server ")
    assert "--auth CODE" in command

    worker = lab.worker(api.link_port, tag="nas", targets={"echo": services.echo(lab)})
    card = page.one("article", "nas")
    assert not page.all("#empty")
    found = api.worker("nas")
    for text in ("lab", found["cid"], "1 link", "Ping"):
        assert text in card.text
    page.one("article tbody tr", found["targets"][0]["listen"])
    page.one("#events li", "nas is here")
    page.one("#events li", "nas/echo listens on")

    lines = ["#all-plot .line.in", "article header .line.in", "article tbody .line.out"]
    before = [page.line(selector) for selector in lines]
    with connect(worker.port("echo")) as visitor:
        assert exchange(visitor, b"x" * 500_000)
        poll("all plots to move", lambda: all(page.line(a) != b for a, b in zip(lines, before)))
        page.one("article tbody tr td", "500 kB")
        page.one("#all-streams", "1")
    worker.stop()
    page.gone("article")
    page.one("#events li", "nas is gone")
    page.one("#empty")


def test_kick_asks_first(lab: Lab, page: Page) -> None:
    api = ApiServer(lab)
    worker = lab.worker(api.link_port, tag="nas", targets={"echo": services.echo(lab)})
    cid = api.worker("nas")["cid"]
    page.open(api)
    button = page.one("article .kick")
    button.send_keys(Keys.ENTER)
    assert cid in page.one("#kick-text").text
    assert page.driver.switch_to.active_element.get_attribute("id") == "kick-no"
    page.driver.switch_to.active_element.send_keys(Keys.ESCAPE)
    page.gone("#kick")
    assert page.driver.switch_to.active_element == button
    button.click()
    page.one("#kick-no").click()
    page.gone("#kick")
    assert api.worker("nas")["cid"] == cid
    button.click()
    page.one("#kick-yes").click()
    page.one("#token", "needs the server's key")
    page.one("#token-why", "server-state/api-key")
    page.one("#token-no").click()
    assert api.worker("nas")["cid"] == cid
    button.click()
    page.one("#kick-yes").click()
    for key, follows in (("wrong", "#token-wrong"), (api.key, "#notes")):
        page.one("#token-field").send_keys(key + Keys.ENTER)
        page.one(follows)
    page.one("#notes", "nas is being sent away")
    page.gone("article")
    page.one("#events li", "nas is sent away")
    assert worker.running


def test_an_address_with_the_key_asks_for_nothing(lab: Lab, page: Page) -> None:
    api = ApiServer(lab)
    lab.worker(api.link_port, tag="nas", targets={"echo": services.echo(lab)})
    api.worker("nas")
    page.open(api, f"#key={api.key}")
    page.one("article .kick").click()
    assert page.driver.current_url == f"{api.url}/", "no key stays in the address line"
    page.one("#kick-yes").click()
    page.one("#notes", "nas is being sent away")
    assert not page.all("#token")


def test_a_lost_server_is_said_plainly_and_found_again(lab: Lab, page: Page) -> None:
    api = ApiServer(lab)
    lab.worker(api.link_port, tag="nas", targets={"echo": services.echo(lab)})
    page.open(api)
    page.one("article", "nas")
    page.one("#state", "up")
    assert not page.all("#lost")
    api.program.stop()
    page.one("#lost", "Connection to the server lost.")
    page.one("#state", "No connection")
    page.one("article", "nas")  # what was known last stays there to read
    assert "No connection" in page.driver.title
    api.start()
    page.gone("#lost")
    page.one("#notes", "The server is back.")
    page.one("article", "nas")
    poll("the title", lambda: "1 worker" in page.driver.title)


def test_filter_by_tag_and_ping(lab: Lab, page: Page) -> None:
    api = ApiServer(lab)
    echo = services.echo(lab)
    for tag in ("nas", "lab"):
        lab.worker(api.link_port, tag=tag, targets={"echo": echo})
        api.worker(tag)
    page.open(api)
    poll("both workers", lambda: len(page.all("article")) == 2)
    page.one("#tags button", "nas").click()
    poll("one worker", lambda: [card.text.split()[0] for card in page.all("article")] == ["nas"])
    assert page.one("#tags button[aria-pressed=true]").text == "nas"
    page.open(api, "#lab")
    poll("the other one", lambda: [card.text.split()[0] for card in page.all("article")] == ["lab"])
    page.one("#tags button", "All").click()
    poll("both workers", lambda: len(page.all("article")) == 2)
    page.one("article .ping").click()
    page.one("#notes", "answered in")


def test_the_token_is_asked_for_once(lab: Lab, page: Page) -> None:
    token = "token-of-this-test"
    api = ApiServer(lab, "--api-token", token, token=token)
    lab.worker(api.link_port, tag="nas", targets={"echo": services.echo(lab)})
    page.open(api)
    field = page.one("#token-field")
    assert not page.all("article")
    field.send_keys("wrong", Keys.ENTER)
    page.one("#token-wrong")
    page.one("#token-field").send_keys(token, Keys.ENTER)
    page.one("article", "nas")
    page.one("#events li", "nas is here")
    page.driver.refresh()
    page.one("article", "nas")
    assert not page.all("#token")
    page.driver.execute_script("sessionStorage.clear()")


def test_everybody_can_use_it(lab: Lab, page: Page) -> None:
    api = ApiServer(lab)
    lab.worker(api.link_port, tag="a" * 63, targets={f"{'b' * 60}-{n}": services.echo(lab) for n in range(2)})
    page.open(api)
    page.one("article tbody tr")
    driver = page.driver
    nodes = driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    seen = [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in nodes
        if not node["ignored"]
    ]
    for role in ("banner", "main", "complementary", "log", "table", "rowheader", "columnheader", "article"):
        assert any(each == role for each, _ in seen), role
    nameless = [
        role
        for role, name in seen
        if role in ("button", "link", "image", "table", "region", "log") and not name
    ]
    assert not nameless

    reached = []
    driver.find_element(By.TAG_NAME, "body").click()
    for _ in range(8):
        driver.switch_to.active_element.send_keys(Keys.TAB)
        reached.append(driver.switch_to.active_element.get_attribute("class"))
    assert "skip" in reached
    assert "ping" in reached
    assert "kick" in reached

    phone = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    try:
        poll("the phone's width", lambda: driver.execute_script("return innerWidth") == 360)
        assert driver.execute_script("return document.documentElement.scrollWidth") <= 360
        assert page.one("article tbody tr").text
        # A table that is laid out as blocks is a table all the same.
        nodes = driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
        assert {"table", "cell"} <= {node["role"]["value"] for node in nodes if not node["ignored"]}
    finally:
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_past_by_day_month_and_year(lab: Lab, page: Page) -> None:
    api = ApiServer(lab, "--utc")
    targets = {"echo": services.echo(lab), "other": services.echo(lab)}
    worker = lab.worker(api.link_port, tag="nas", targets=targets)
    assert echoes(worker.port("echo"), b"x" * 600_000)
    assert echoes(worker.port("other"), b"x" * 200_000)

    def kept() -> set[int]:
        return {line["bytes_in"] for line in api.call("/traffic/history?step=month").json["lines"]}

    poll("both to be kept", lambda: kept() == {600_000, 200_000})
    page.open(api)
    for view, bars in (("year", 12), ("month", None), ("day", 24)):
        page.one(f".choose button[data-value={view}]").click()
        page.one(f".choose button[data-value={view}][aria-pressed=true]")
        poll("the columns", lambda bars=bars: bars in (None, len(page.all(".marks > span"))))  # type: ignore[misc]
        first, second = page.one(".rank", "nas/echo"), page.one(".rank", "nas/other")
        assert "75%" in page.text(first) and "25%" in page.text(second)
        assert not page.all("#all-plot")
        assert len(page.all(".bar-in")) == len(page.all(".bar-out")) == 1
    row = ".columns-plot table tr:nth-child(2)"  # what a screen reader has in place of the columns
    assert "800 kB" in page.text(page.driver.find_element(By.CSS_SELECTOR, row))
    second.click()
    page.one(".rank[aria-pressed=true]", "nas/other")
    poll(
        "its columns alone",
        lambda: "200 kB" in page.text(page.driver.find_element(By.CSS_SELECTOR, row)),
    )
    page.one(".choose button[data-value=user]").click()
    page.one(".rank", "Without a user")
    page.one(".walk .step:first-child").click()
    page.one("#all-plot ~ div .quiet", "Nothing moved")

    phone = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    try:
        poll("the phone's width", lambda: page.driver.execute_script("return innerWidth") == 360)
        page.one(".walk .step:last-child").click()
        page.one(".rank", "800 kB")
        assert page.driver.execute_script("return document.documentElement.scrollWidth") <= 360
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    page.one(".choose button[data-value=now]").click()
    page.one("#all-plot")
    page.gone(".rank")


def test_it_asks_nobody_but_its_server(lab: Lab, page: Page) -> None:
    api = ApiServer(lab)
    page.open(api)
    page.one("#state", "up")
    script = "return performance.getEntriesByType('resource').map((entry) => entry.name)"
    asked = page.driver.execute_script(script)
    assert asked
    assert all(address.startswith(api.url + "/") for address in asked)
    policy = api.call("/").headers["content-security-policy"]
    assert "connect-src 'self'" in policy
    assert "script-src 'sha256-" in policy
    hostile = "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=alert(1)>')"
    refused = page.driver.execute_script(f"try {{ {hostile}; return false }} catch {{ return true }}")
    assert refused
    page.driver.get_log("browser")  # that was to be complained of


def test_it_speaks_chinese(lab: Lab) -> None:
    api = ApiServer(lab)
    page = Page(lab, "zh-CN,zh")
    page.open(api)
    page.one("#empty", "还没有节点")
    lab.worker(api.link_port, tag="nas", targets={"echo": services.echo(lab)})
    page.one("article", "条链路")
    page.one("#events li", "nas 已上线")
    assert page.driver.find_element(By.TAG_NAME, "html").get_attribute("lang") == "zh-CN"
    assert not page.complaints()

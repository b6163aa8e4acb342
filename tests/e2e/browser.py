"""A real browser for the tests that need one: Debian's Chromium without a window, driven by Selenium.

Every browser has a profile of its own, and asks nobody but whom a test leads it to.
"""

from __future__ import annotations

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

from tests.e2e import services
from tests.e2e.harness import Lab

SWITCHES = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
]
SWITCHES += ["--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"]


def chromium(lab: Lab, *switches: str, language: str = "en-US") -> webdriver.Chrome:
    """A browser that ends with the lab; ``get_log("browser")`` has what it finds wrong itself."""
    options = Options()
    options.binary_location = services.find("chromium")
    for switch in (*SWITCHES, f"--user-data-dir={lab.new_folder('profile')}", *switches):
        options.add_argument(switch)
    options.add_experimental_option("prefs", {"intl.accept_languages": language})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(services.find("chromedriver")))
    lab.closing.callback(driver.quit)
    return driver

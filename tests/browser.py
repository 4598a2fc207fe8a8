"""A real browser for the tests of pages."""

import contextlib
import json
import shutil

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
DRIVER = shutil.which("chromedriver") or ""
QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic",
    "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--window-size=1280,900",
)  # fmt: skip

needed = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver (Debian: chromium-driver)"
)


@contextlib.contextmanager
def started(profile):
    """A browser that keeps what it logs; `profile` is an empty directory."""
    options = ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (*QUIET, f"--user-data-dir={profile}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = Chrome(options, Service(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


def fetched(driver):
    """Addresses that were asked for, but for those that hold their content and the browser's own,
    whose first page may still be loading."""
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    urls = [
        e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"
    ]
    return [url for url in urls if not url.startswith(("data:", "chrome:"))]


def check_fetches_and_complaints(driver, address):
    """Opens a page, which must ask for nothing else, complain of nothing and show all pictures."""
    fetched(driver)  # what came before
    driver.get_log("browser")
    driver.get(address)
    found = fetched(driver)
    assert found == [address], found
    complaints = driver.get_log("browser")
    assert not complaints, complaints
    broken = "return [...document.images].filter(i => !i.complete || i.naturalWidth === 0).length"
    assert driver.execute_script(broken) == 0, "pictures are broken"


@contextlib.contextmanager
def phone(driver):
    """A narrow screen."""
    metrics = {"width": 320, "height": 700, "deviceScaleFactor": 2, "mobile": True}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        yield
    finally:
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def check_nothing_sticks_out(driver, scrolled=".scroll, .film"):
    """On a phone nothing is wider than the screen, but for what scrolls by itself."""
    root = "document.documentElement"
    width = driver.execute_script(f"return {root}.scrollWidth")
    assert width == 320, width
    outside = driver.execute_script(
        "return [...document.querySelectorAll('main *, header *')].filter(e => "
        f"!e.closest('{scrolled}') && e.getBoundingClientRect().right > 321)"
        ".map(e => e.outerHTML.slice(0, 80))"
    )
    assert not outside, outside

"""The arena's page in a real browser."""

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from benchmarks.arena import page
from tests import browser

pytestmark = browser.needed


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    with browser.started(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture(scope="module")
def address(out):
    return f"file://{out / page.FILE}"


@pytest.fixture
def arena(driver, address):
    driver.get(address)
    return driver


def names(driver):
    return [cell.text.splitlines()[0] for cell in find(driver, "tbody th")]


def find(driver, selector):
    return driver.find_elements(By.CSS_SELECTOR, f".arena {selector}")


def values(driver, column):
    cells = find(driver, f"tbody tr > :nth-child({column + 1})")
    return [float(c.get_attribute("data-value") or "nan") for c in cells]


def test_fetches_nothing_and_complains_of_nothing(driver, address):
    browser.check_fetches_and_complaints(driver, address)


def test_columns_sort_both_ways_and_what_has_no_value_comes_last(arena):
    def known(column):
        found = values(arena, column)
        finite = [value for value in found if value == value]
        assert found[: len(finite)] == finite
        assert len(finite) < len(found)  # the one that diverged
        return finite

    assert known(1) == sorted(known(1), reverse=True)
    score = find(arena, "thead button")[2]
    score.send_keys(Keys.ENTER)
    assert known(2) == sorted(known(2), reverse=True)
    assert score.find_element(By.XPATH, "..").get_attribute("aria-sort") == "descending"
    score.send_keys(Keys.ENTER)
    assert known(2) == sorted(known(2))
    assert [h.get_attribute("aria-sort") for h in find(arena, "thead th")].count("ascending") == 1
    find(arena, "thead button")[0].click()
    assert names(arena) == sorted(names(arena), key=str.lower)


def test_reconstructions_show_on_focus_and_stay_when_asked_for(arena):
    (button,) = find(arena, ".flip")  # of the one that was trained
    recon = button.find_element(By.CSS_SELECTOR, ".recon")

    def opacity():
        return float(recon.value_of_css_property("opacity"))

    assert opacity() == 0
    button.send_keys(Keys.SPACE)
    assert button.get_attribute("aria-pressed") == "true"
    arena.execute_script("document.activeElement.blur()")
    assert opacity() == 1
    button.send_keys(Keys.SPACE)
    assert button.get_attribute("aria-pressed") == "false"
    assert opacity() == 1  # by the keyboard's focus
    arena.execute_script("document.activeElement.blur()")
    assert opacity() == 0


def test_seeds_are_dots_and_failures_say_why(arena):
    rows = dict(zip(names(arena), find(arena, "tbody tr"), strict=True))
    dots = rows["Toy"].find_elements(By.CSS_SELECTOR, "td:nth-child(2) circle")
    assert len(dots) == 2
    (failed,) = rows["Diverging toy"].find_elements(By.CSS_SELECTOR, ".failed")
    assert failed.text == "2 of 2 seeds failed"
    reasons = arena.find_elements(By.CSS_SELECTOR, ".reasons li")
    assert [line.text.partition(":")[0] for line in reasons] == [
        "Diverging toy, seed 0",
        "Diverging toy, seed 1",
    ]
    trivial = [row for row in rows.values() if row.get_attribute("class") == "trivial"]
    assert len(trivial) == 3


def test_pictures_of_a_row_stand_below_those_of_the_scenes(arena):
    strips = find(arena, ".strip")
    edges = {(strip.rect["x"], round(strip.rect["width"])) for strip in strips}
    assert len({round(x) for x, _ in edges}) == 1
    assert len({width for _, width in edges}) == 1


def test_nothing_sticks_out_on_a_phone(arena):
    with browser.phone(arena):
        browser.check_nothing_sticks_out(arena, scrolled=".nothing")
        strip = find(arena, "tbody .strip")[0]
        assert strip.size["width"] > 250


def test_without_scripts_everything_is_there(driver, address):
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        driver.get(address)
        assert len(find(driver, "tbody tr")) == 5
        assert all(strip.is_displayed() for strip in find(driver, "tbody .strip:not(.recon)"))
    finally:
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})

"""The page in a real browser."""

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from akorn_jax import report
from tests import browser

pytestmark = browser.needed


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    with browser.started(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture(scope="module")
def oscillators_report(oscillators_config, oscillators_run):
    return f"file://{report.write(oscillators_config, oscillators_run)}"


@pytest.fixture(scope="module")
def slots_report(slots_config, slots_run):
    return f"file://{report.write(slots_config, slots_run)}"


@pytest.fixture
def page(driver, oscillators_report):
    driver.get(oscillators_report)
    return driver


@pytest.mark.parametrize("kind", ["oscillators_report", "slots_report"])
def test_fetches_nothing_and_complains_of_nothing(kind, driver, request):
    browser.check_fetches_and_complaints(driver, request.getfixturevalue(kind))


def test_the_policy_of_the_page_forbids_fetching(page):
    script = (
        "fetch('https://example.com').then(() => arguments[0](true), () => arguments[0](false))"
    )
    assert page.execute_async_script(script) is False
    assert any("Content Security Policy" in line["message"] for line in page.get_log("browser"))


def films(page):
    """Where all films stand, as shares of their lengths."""
    return page.execute_script(
        "return [...document.querySelectorAll('.film img')].map(i => {"
        "const a = i.getBoundingClientRect(), b = i.parentElement.getBoundingClientRect();"
        "return (b.left - a.left) / a.width})"
    )


def test_the_slider_moves_oscillators_energy_and_words(page):
    slider = page.find_element(By.CSS_SELECTOR, "#oscillators .step")
    words = page.find_element(By.CSS_SELECTOR, "#oscillators .step-name")
    dot = page.find_element(By.CSS_SELECTOR, ".dot")
    heights = [float(h) for h in dot.get_attribute("data-heights").split()]
    assert words.text == "step 2"
    slider.send_keys(Keys.HOME)
    assert words.text == "step 0"
    assert all(0 < place < 0.02 for place in films(page))
    assert slider.get_attribute("aria-valuetext") == "step 0"
    slider.send_keys(Keys.ARROW_RIGHT)
    assert words.text == "step 1"
    assert films(page) == pytest.approx([1 / 3] * 12, abs=0.02)
    area = dot.find_element(By.XPATH, "..").rect
    place = (dot.rect["y"] + dot.rect["height"] / 2 - area["y"]) / area["height"]
    assert 100 * place == pytest.approx(heights[1], abs=2)


def test_the_button_plays_and_pauses_by_keyboard(page):
    button = page.find_element(By.CSS_SELECTOR, "#oscillators .play")
    words = page.find_element(By.CSS_SELECTOR, "#oscillators .step-name")
    page.execute_script("arguments[0].focus()", button)
    button.send_keys(Keys.SPACE)
    assert (button.text, words.text) == ("Pause", "step 0")
    WebDriverWait(page, 20, 0.05).until(lambda _: words.text == "step 1")
    button.send_keys(Keys.SPACE)
    assert button.text == "Play"


def test_the_slider_moves_the_attention_of_all_slots(driver, slots_report, slots_config):
    driver.get(slots_report)
    count = 6 * slots_config.model.num_slots
    slider = driver.find_element(By.CSS_SELECTOR, "#slots .step")
    words = driver.find_element(By.CSS_SELECTOR, "#slots .step-name")
    assert words.text == "iteration 3"
    assert films(driver) == pytest.approx([2 / 3] * count, abs=0.02)
    slider.send_keys(Keys.HOME)
    assert words.text == slider.get_attribute("aria-valuetext") == "iteration 1"
    assert films(driver) == pytest.approx([0] * count, abs=0.02)
    button = driver.find_element(By.CSS_SELECTOR, "#slots .play")
    driver.execute_script("arguments[0].focus()", button)
    button.send_keys(Keys.SPACE)
    assert (button.text, words.text) == ("Pause", "iteration 2")
    button.send_keys(Keys.SPACE)
    assert button.text == "Play"
    rows = driver.find_elements(By.CSS_SELECTOR, "#slots .named img")
    assert len(rows) == count
    assert not rows[0].is_displayed()
    driver.find_element(By.CSS_SELECTOR, "#slots summary").send_keys(Keys.ENTER)
    assert rows[0].is_displayed()
    assert rows[0].size["width"] > 2.5 * rows[0].size["height"]  # iterations side by side


def test_scenes_are_sorted(page):
    def scores(name):
        cards = page.find_elements(By.CSS_SELECTOR, ".card")
        return [float(card.get_attribute(f"data-{name}")) for card in cards]

    assert scores("fg-ari") == sorted(scores("fg-ari"), reverse=True)
    select = Select(page.find_element(By.ID, "sort"))
    select.select_by_visible_text("FG-ARI, worst first")
    assert scores("fg-ari") == sorted(scores("fg-ari"))
    select.select_by_visible_text("mBO, best first")
    assert scores("mbo") == sorted(scores("mbo"), reverse=True)
    select.select_by_visible_text("order of the data")
    assert scores("index") == sorted(scores("index"))


def test_a_scene_is_enlarged_and_its_neighbour_shown_by_keyboard(page):
    dialog = page.find_element(By.ID, "zoom")
    first, second = page.find_elements(By.CSS_SELECTOR, ".card button")[:2]
    small = first.find_element(By.CSS_SELECTOR, "img").size["width"]
    first.send_keys(Keys.ENTER)
    assert dialog.is_displayed()
    assert len(dialog.find_elements(By.CSS_SELECTOR, ".panels figure")) == 4
    assert dialog.find_element(By.CSS_SELECTOR, ".panels img").size["width"] > 2 * small
    name = second.get_attribute("aria-label").removeprefix("Enlarge ")
    page.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    assert dialog.find_element(By.CSS_SELECTOR, ".caption").text.startswith(name + " ")
    page.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert not dialog.is_displayed()
    # The page moves the focus on the dialog's close event, which comes after the key has returned.
    WebDriverWait(page, 10).until(lambda page: page.switch_to.active_element == second)


def test_outlines_can_be_hidden(page):
    outline = page.find_element(By.CSS_SELECTOR, ".card .outline:not(.pred)")
    assert outline.is_displayed()
    page.find_element(By.ID, "outlines").click()
    assert not outline.is_displayed()


@pytest.mark.parametrize("kind", ["oscillators_report", "slots_report"])
def test_nothing_sticks_out_on_a_phone(kind, driver, request):
    driver.get(request.getfixturevalue(kind))
    with browser.phone(driver):
        browser.check_nothing_sticks_out(driver)


def test_without_scripts_everything_is_there(driver, oscillators_report):
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        driver.get(oscillators_report)
        assert len(driver.find_elements(By.CSS_SELECTOR, ".card")) == 16
        assert driver.find_element(By.CSS_SELECTOR, ".film img").is_displayed()
        assert driver.find_element(By.CSS_SELECTOR, ".step-name").text == "step 2"
    finally:
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})

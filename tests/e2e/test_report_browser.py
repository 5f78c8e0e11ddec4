"""The report in a real browser: nothing is fetched, nothing complains, and it can be used."""

import re
from pathlib import Path
from typing import Any

import digits
import pytest
import scouts
import sweeps
from browsers import browser, opened

from crossteach import TransferConfig, load_data, load_model, transfer, with_settings, write_report


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A report of every kind."""
    folder = tmp_path_factory.mktemp("reports")
    made = digits.make(tmp_path_factory.mktemp("digits"))
    settings = ["optim.epochs=3", "optim.batch_size=32", "views.count=1", "optim.lr=0.1", "gate.max_loss=5"]
    student, teacher = load_model(made.student), load_model(made.teacher)
    transfer(student, [teacher], load_data(made.data), folder / "transfer", with_settings(TransferConfig(), settings))
    scouts.write(folder / "scout")
    scouts.write(folder / "nasty", nasty=True)
    scouts.write(folder / "large", n_models=32, n_classes=40, n_test=2000)
    scouts.write_old(folder / "old")
    sweeps.write(folder / "sweep", nasty=True, failed=[("a-job" * 9, scouts.NASTY[9])])
    sweeps.write(folder / "sixty", n_models=60)
    return {path.name: write_report(path) for path in sorted(folder.iterdir())}


__all__ = ["browser"]
KINDS = ("transfer", "scout", "nasty", "large", "old", "sweep", "sixty")


@pytest.mark.parametrize("kind", KINDS)
def test_it_renders_on_a_phone_without_a_sideways_scroll(browser, pages, kind):
    with opened(browser, pages[kind], width=360) as page:
        page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert page.evaluate("[...document.images].every((i) => i.complete && i.naturalWidth > 0)")
        assert page.locator("h1").is_visible()
        outside = "[...document.querySelectorAll('h1, h2, p, svg, select, pre')]"
        assert (
            page.evaluate(outside + ".filter((e) => e.getBoundingClientRect().right > 361).map((e) => e.outerHTML)")
            == []
        )


def column(table: Any, place: int) -> list[str]:
    return [cell.strip() for cell in table.locator(f"tbody tr > :nth-child({place})").all_text_contents()]


def numbers(cells: list[str]) -> list[float]:
    return [float(cell.replace("−", "-").replace(",", "")) for cell in cells if cell != "–"]


def test_tables_sort_by_click_and_by_key(browser, pages):
    with opened(browser, pages["scout"]) as page:
        table = page.locator("#models table")
        heads = table.locator("thead th")
        accuracy = heads.nth(1)
        assert accuracy.get_attribute("aria-sort") is None
        accuracy.get_by_role("button").click()
        assert accuracy.get_attribute("aria-sort") == "descending"
        found = numbers(column(table, 2))
        assert len(found) == 4
        assert found == sorted(found, reverse=True)
        page.keyboard.press("Enter")
        assert accuracy.get_attribute("aria-sort") == "ascending"
        assert numbers(column(table, 2)) == sorted(found)
        page.keyboard.press("Tab")
        page.keyboard.press("Space")
        assert heads.nth(2).get_attribute("aria-sort") == "descending"
        assert accuracy.get_attribute("aria-sort") is None
        assert column(table, 3)[-1] == "–"
        page.keyboard.press("Enter")
        assert column(table, 3)[-1] == "–"
        heads.nth(0).get_by_role("button").click()
        assert column(table, 1) == sorted(column(table, 1))
        pairs = page.locator("#pairs table")
        pairs.locator("thead th").nth(2).get_by_role("button").click()
        found = numbers(column(pairs, 3))
        assert min(found) < 0 < max(found)
        assert found == sorted(found, reverse=True)


def test_a_pair_is_chosen_by_selects_keys_cells_and_points(browser, pages):
    with opened(browser, pages["scout"]) as page:
        names = [f"model-{i:02}.a1_in1k" for i in range(4)]
        title, panel = page.locator("#panel h3"), page.locator("#panel")
        assert title.text_content() == f"{names[3]} teaches {names[0]}"
        page.get_by_role("combobox", name="Student").select_option(label=names[2])
        assert title.text_content() == f"{names[3]} teaches {names[2]}"
        assert page.locator("#told").text_content() == f"Shown: {names[3]} teaches {names[2]}"
        assert page.locator("td.chosen").get_attribute("data-pair") == "2-3"
        page.get_by_role("combobox", name="Student").focus()
        page.keyboard.press("ArrowDown")
        assert title.text_content() == f"{names[0]} teaches {names[3]}"
        page.get_by_role("combobox", name="Teacher").focus()
        page.keyboard.press("ArrowDown")
        assert title.text_content() == f"{names[1]} teaches {names[3]}"
        page.locator('td[data-pair="1-2"]').click()
        assert title.text_content() == f"{names[2]} teaches {names[1]}"
        assert page.get_by_role("combobox", name="Student").input_value() == "1"
        page.locator('svg [data-pair="0-1"]').click(force=True)
        assert title.text_content() == f"{names[1]} teaches {names[0]}"
        assert page.locator('svg [data-pair="0-1"] title').text_content().startswith(f"{names[0]} taught by {names[1]}")
        told = panel.text_content()
        for heading in ("The partition, before any training", "Flips by class", "is the expert", "disagreements"):
            assert heading in told
        bars = panel.locator("table.bars").first.locator("tbody tr")
        assert bars.count() == 10
        assert panel.locator("img").count() == 12
        assert panel.locator("img").first.get_attribute("alt") == "Test sample 0, a class number 0000"
        shown = numbers(column(panel.locator("table.bars").first, 2))
        assert shown == sorted(shown, reverse=True)
        assert sum(shown) == numbers([re.search(r"wrong on ([\d,]+) samples", told)[1]])[0]


def test_every_pair_of_many_opens(browser, pages):
    with opened(browser, pages["large"]) as page:
        assert page.locator("td[data-pair]").count() == 992
        for student, teacher in ((0, 31), (31, 0), (16, 15)):
            page.get_by_role("combobox", name="Student").select_option(str(student))
            page.get_by_role("combobox", name="Teacher").select_option(str(teacher))
            title = page.locator("#panel h3").text_content()
            assert title == f"model-{teacher:02}.a1_in1k teaches model-{student:02}.a1_in1k"
            assert page.locator("#panel table.bars").first.locator("tbody tr").count() == 20


def test_names_run_nothing(browser, pages):
    with opened(browser, pages["nasty"]) as page:
        for student in range(4):
            page.get_by_role("combobox", name="Student").select_option(str(student))
        assert page.locator("#panel script, #panel img[onerror]").count() == 0
        assert scouts.NASTY[0] in page.locator("#panel").text_content()


@pytest.mark.parametrize("scripts", [True, False])
def test_every_matrix_of_a_sweep_opens(browser, pages, scripts):
    with opened(browser, pages["sweep"], java_script_enabled=scripts) as page:
        matrices = page.locator("#deltas details")
        assert matrices.count() == 4
        assert [matrices.nth(i).locator("table").is_visible() for i in range(4)] == [True, False, False, False]
        for i in range(1, 4):
            matrices.nth(i).locator("summary").click()
            assert matrices.nth(i).locator("table").is_visible()
        assert page.locator("#deltas td.loss").first.is_visible()


def test_a_cell_of_a_matrix_tells_its_pair(browser, pages):
    with opened(browser, pages["sixty"], width=700) as page:
        table = page.locator("#deltas table").first
        cell = table.locator("tbody tr").nth(50).locator("td").nth(45)
        cell.hover()
        assert cell.get_attribute("title") == "model-50.a1_in1k by model-45.a1_in1k"
        heads = "(t) => [...t.tHead.rows[0].cells].map((c) => c.getBoundingClientRect())"
        first, *_, last = table.evaluate(heads)
        box = table.locator("xpath=..").bounding_box()
        assert abs(first["top"] - box["y"]) < 2 and abs(first["left"] - box["x"]) < 2  # the corner stays in sight
        assert last["left"] > box["x"] + box["width"]
        corner = [first["left"] + 5, first["top"] + 5]
        assert page.evaluate("([x, y]) => document.elementFromPoint(x, y).textContent", corner) == "Student"


def test_tables_of_a_sweep_sort(browser, pages):
    with opened(browser, pages["sweep"]) as page:
        table = page.locator("#methods table").first
        table.locator("thead th").nth(2).get_by_role("button").click()
        found = numbers(column(table, 3))
        assert len(found) == 4
        assert found == sorted(found, reverse=True)


def luminance(colour: str) -> float:
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def style(page: Any, selector: str, name: str) -> str:
    return page.locator(selector).first.evaluate(f"(e) => getComputedStyle(e).getPropertyValue('{name}')")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", ["transfer", "scout", "sweep"])
def test_both_schemes_can_be_read(browser, pages, kind, scheme):
    with opened(browser, pages[kind], color_scheme=scheme) as page:
        ground = style(page, "body", "background-color")
        assert (luminance(ground) < 0.05) == (scheme == "dark")
        for selector, name in (("h1", "color"), ("td", "color"), ("thead th", "color"), ("nav a", "color")):
            assert contrast(style(page, selector, name), ground) >= 4.5
        for selector in ("svg text", "caption", "summary", ".kind"):
            name = "fill" if "svg" in selector else "color"
            assert contrast(style(page, selector, name), ground) >= 4.5
        marks = page.locator("svg use:has(title)").first
        assert contrast(marks.evaluate("(e) => getComputedStyle(e).fill"), ground) >= 3


def test_the_darkest_cell_of_the_matrix_can_be_read(browser, pages):
    for scheme, kind in (("light", "scout"), ("dark", "scout"), ("light", "sweep"), ("dark", "sweep")):
        with opened(browser, pages[kind], color_scheme=scheme) as page:
            ground = [int(part) for part in re.findall(r"\d+", style(page, "body", "background-color"))[:3]]
            cells = page.locator("td[data-pair], td[style*='--h']").evaluate_all(
                "(all) => all.map((e) => [getComputedStyle(e).backgroundColor, getComputedStyle(e).color])"
            )
            for background, ink in cells:
                *colour, alpha = (float(part) for part in re.findall(r"[\d.]+", background))
                mixed = [round(alpha * c + (1 - alpha) * g) for c, g in zip(colour, ground, strict=True)]
                assert contrast(str(mixed), ink) >= 4.5


@pytest.mark.parametrize("kind", ["transfer", "scout", "sweep"])
def test_paper_is_white_and_whole(browser, pages, kind):
    with opened(browser, pages[kind], color_scheme="dark") as page:
        page.emulate_media(media="print", color_scheme="dark")
        assert luminance(style(page, "h1", "color")) < 0.05
        assert luminance(style(page, "body", "background-color")) == 1
        assert not page.locator("nav").is_visible()
        assert page.locator("#repeat pre").is_visible()
        hidden = "[...document.querySelectorAll('.scroll')].filter((e) => getComputedStyle(e).overflowX !== 'visible')"
        assert page.evaluate(hidden + ".length") == 0
        assert page.pdf(format="A4", print_background=True).startswith(b"%PDF")


def test_without_scripts_the_page_still_tells(browser, pages):
    cannot = "tables cannot be sorted"
    for kind, says in (("scout", "This part needs JavaScript"), ("transfer", cannot), ("sweep", cannot)):
        with opened(browser, pages[kind], java_script_enabled=False) as page:
            assert page.get_by_text(says).first.is_visible()
            assert page.locator("h1").is_visible()
            assert page.locator("form.chooser").count() == 0 or not page.locator("form.chooser").is_visible()


def test_the_keyboard_reaches_the_main_part_first(browser, pages):
    with opened(browser, pages["transfer"]) as page:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the result"
        page.keyboard.press("Enter")
        assert page.url.endswith("#main")

"""The console for everyone: by keyboard alone, for screen readers, on a narrow screen, without motion."""

from __future__ import annotations

from typing import Any

import pytest

from tests.console.conftest import EVIL_GROUP, Open

pytestmark = pytest.mark.slow

PAGES = {
    "overview": "#/overview",
    "topics": "#/topics",
    "tail": "#/topics/flights?tab=tail",
    "partitions": "#/topics/flights?tab=partitions",
    "settings": "#/topics/flights?tab=settings",
    "publish": "#/topics/flights?tab=publish",
    "search": "#/search?topics=flights&q=origin:JFK",
    "trace": "#/trace?value=JFK",
    "groups": "#/groups",
    "group": "#/groups/billing",
    "event": "#/event/flights/0/1",
    "not here": "#/nowhere",
}


def settled(page: Any) -> None:
    """Wait until a page shows what it has."""
    page.locator("main > *").first.wait_for()
    for busy in ("main .loading", ".results[aria-busy=true]"):
        page.locator(busy).first.wait_for(state="detached")
    page.wait_for_timeout(300)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(show: Open, scheme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    found = []
    for name, where in PAGES.items():
        page = show(where, scheme=scheme)
        settled(page)
        if name == "search":
            page.keyboard.press("Escape")
            for key in ("j", "x", "Enter"):
                page.keyboard.press(key)
            page.locator(".detail .event").wait_for()
        told = Axe().run(page).response["violations"]
        found += [(name, each["id"], each["nodes"][0]["html"][:200]) for each in told]
        page.close()
    assert found == []


@pytest.mark.parametrize("button", ["Reset…", "Delete…"])
def test_axe_finds_nothing_in_a_dialog(show: Open, button: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page = show("#/groups/billing")
    page.get_by_role("button", name=button).click()
    page.locator("dialog .preview > *").first.wait_for()
    assert Axe().run(page).response["violations"] == []


@pytest.mark.parametrize("name", PAGES)
def test_360_pixels_are_enough(show: Open, name: str) -> None:
    page = show(PAGES[name], width=360, height=740)
    settled(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    outside = page.evaluate(
        """[...document.querySelectorAll("button, input, select, textarea, a, h1")].filter((each) => {
          const box = each.getBoundingClientRect();
          return box.width && (box.right > 361 || box.left < -1) && !each.closest(".table-box, .tabs, .skip");
        }).map((each) => each.outerHTML.slice(0, 200))"""
    )
    assert [each for each in outside if "skip" not in each] == []


def test_every_stop_of_the_tab_key_is_seen_and_named(show: Open) -> None:
    for name in ("topics", "search", "settings", "group"):
        page = show(PAGES[name])
        settled(page)
        page.keyboard.press("Escape")
        stops = set()
        for _ in range(60):
            page.keyboard.press("Tab")
            stop = page.evaluate(
                """(() => {
                  const it = document.activeElement;
                  if (!it || it === document.body) return null;
                  const style = getComputedStyle(it);
                  const label = it.id && document.querySelector(`label[for="${CSS.escape(it.id)}"]`);
                  const seen = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
                  const named = it.getAttribute("aria-label") || it.innerText || label?.innerText
                    || it.closest("label")?.innerText;
                  return { seen, named: Boolean(named), html: it.outerHTML.slice(0, 160) };
                })()"""
            )
            if stop is None:
                break
            stops.add(stop["html"])
            assert stop["seen"], f"{name}: no focus to be seen on {stop['html']}"
            assert stop["named"], f"{name}: no name for {stop['html']}"
        assert len(stops) > 8
        page.close()


def test_a_group_is_reset_by_keyboard_alone(show: Open) -> None:
    page = show("#/overview")
    page.get_by_text("reading and writing").wait_for()
    for key in ("g", "g"):
        page.keyboard.press(key)
    page.get_by_role("option").first.wait_for()
    page.keyboard.press("/")
    page.keyboard.type("script")
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.get_by_text("Positions").first.wait_for()
    button = page.get_by_role("button", name="Reset…")
    button.focus()
    page.keyboard.press("Enter")
    page.get_by_text("500 events will be read again").wait_for()
    page.keyboard.press("Escape")
    page.locator("dialog").wait_for(state="detached")
    assert button.evaluate("(it) => it === document.activeElement"), EVIL_GROUP


def test_nothing_moves_for_those_who_want_it_so(show: Open) -> None:
    page = show("#/topics")
    page.emulate_media(reduced_motion="reduce")
    moving = page.evaluate(
        """(() => {
          const bar = document.body.appendChild(document.createElement("div"));
          bar.className = "progress-bar";
          bar.appendChild(document.createElement("i"));
          return getComputedStyle(bar.firstChild).transitionDuration;
        })()"""
    )
    assert moving in ("0s", "0.00001s", "1e-05s")

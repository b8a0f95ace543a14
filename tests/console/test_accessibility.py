"""Accessibility: keyboard, screen readers, narrow screens, reduced motion."""

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
    "subscriptions": "#/subscriptions",
    "subscription": "#/subscriptions/fees",
    "dead letters": "#/subscriptions/fees?tab=dead",
    "consumers": "#/subscriptions/fees?tab=consumers",
    "subscription settings": "#/subscriptions/fees?tab=settings",
    "event": "#/event/flights/0/1",
    "users": "#/access",
    "rights": "#/access?tab=rights",
    "masked fields": "#/access?tab=masking",
    "quotas": "#/access?tab=quotas",
    "tokens": "#/access?tab=tokens",
    "audit": "#/access?tab=audit",
    "not here": "#/nowhere",
}


def wait_until_loaded(page: Any) -> None:
    """Wait until a page has loaded."""
    page.locator("main > *").first.wait_for()
    for busy in ("main .loading", ".results[aria-busy=true]"):
        page.locator(busy).first.wait_for(state="detached")
    page.wait_for_timeout(300)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(show: Open, scheme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    violations = []
    for name, where in PAGES.items():
        page = show(where, scheme=scheme)
        wait_until_loaded(page)
        if name == "search":
            page.keyboard.press("Escape")
            for key in ("j", "x", "Enter"):
                page.keyboard.press(key)
            page.locator(".detail .event").wait_for()
        report = Axe().run(page).response["violations"]
        violations += [(name, rule["id"], rule["nodes"][0]["html"][:200]) for rule in report]
        page.close()
    assert violations == []


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
    wait_until_loaded(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    outside = page.evaluate(
        """[...document.querySelectorAll("button, input, select, textarea, a, h1")].filter((element) => {
          const box = element.getBoundingClientRect();
          const isOutside = box.width && (box.right > 361 || box.left < -1);
          return isOutside && !element.closest(".table-box, .tabs, .skip");
        }).map((element) => element.outerHTML.slice(0, 200))"""
    )
    assert [html for html in outside if "skip" not in html] == []


def test_every_focused_element_is_visible_and_named(show: Open) -> None:
    for name in ("topics", "search", "settings", "group"):
        page = show(PAGES[name])
        wait_until_loaded(page)
        page.keyboard.press("Escape")
        stops = set()
        for _ in range(60):
            page.keyboard.press("Tab")
            stop = page.evaluate(
                """(() => {
                  const focused = document.activeElement;
                  if (!focused || focused === document.body) return null;
                  const style = getComputedStyle(focused);
                  const selector = `label[for="${CSS.escape(focused.id)}"]`;
                  const label = focused.id && document.querySelector(selector);
                  const visible = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
                  const named = focused.getAttribute("aria-label") || focused.innerText || label?.innerText
                    || focused.closest("label")?.innerText;
                  return { visible, named: Boolean(named), html: focused.outerHTML.slice(0, 160) };
                })()"""
            )
            if stop is None:
                break
            stops.add(stop["html"])
            assert stop["visible"], f"{name}: no visible focus on {stop['html']}"
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
    assert button.evaluate("(element) => element === document.activeElement"), EVIL_GROUP


def test_reduced_motion_is_respected(show: Open) -> None:
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

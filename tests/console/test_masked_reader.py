"""Every page of the console as a reader with masked fields: nothing hidden is in a page or in a reply.

And as an administrator, who sees it, and without a login, as somebody who sees nothing."""

from __future__ import annotations

import base64
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.console.conftest import fill_login, opened_page
from tests.support.server import Server

pytestmark = pytest.mark.slow

PASSWORD = "of the test"
CARD, EMAIL, PHONE = "4111-2222-3333", "anna.secret@example.org", "+41791234567"
HEADER, KEY = "bearer-of-header", "key-of-customer"
VALUE = {"card": f"{CARD}-1234", "contact": {"email": EMAIL, "phone": PHONE}, "city": "Bern"}
MASKED = ("4111-2222", "anna.secret", "4179123", HEADER, KEY)
"""What the reader may not see of events that they may read."""
HIDDEN = ("ceo", "bonus")
"""What the names of other topics, groups, subscriptions and users begin with."""
EVENTS = 240
"""More than a search shows at first."""
RECORD_REPLIES = """() => {
  const original = window.fetch;
  window.replies = [];
  window.fetch = async (...request) => {
    const response = await original(...request);
    const reply = { url: response.url, status: response.status, text: "" };
    window.replies.push(reply);
    reply.text += JSON.stringify([...response.headers]);
    if (!response.body) return response;
    const [shown, recorded] = response.body.tee();
    (async () => {
      for await (const chunk of recorded.pipeThrough(new TextDecoderStream())) reply.text += chunk;
    })().catch(() => {});
    return new Response(shown, response);
  };
  const Source = window.EventSource;
  window.EventSource = class extends Source {
    addEventListener(name, listener) {
      super.addEventListener(name, (event) => {
        window.replies.push({ url: this.url, status: 200, text: String(event.data) });
        listener(event);
      });
    }
  };
}"""
PAGES = {
    "": "Overview",
    "topics": "bonus",
    "topics/bonus?tab=tail": "Live tail",
    "topics/bonus?tab=partitions": "Partitions",
    "topics/bonus?tab=settings": "retention.ms",
    "topics/bonus?tab=publish": "Publish",
    "groups": "ceo-group",
    "groups/ceo-group": "bonus",
    "subscriptions": "bonus-work",
    "subscriptions/bonus-work?tab=events": CARD,
    "subscriptions/bonus-work?tab=dead": CARD,
    "subscriptions/bonus-work?tab=consumers": "one",
    "subscriptions/bonus-work?tab=settings": "dead_letter_topic",
    "search?topics=bonus&q=card:4*": CARD,
    "trace?value=open-1": "events in one topic",
    "event/bonus/0/5": EMAIL,
    "access?tab=users": "ceo",
    "access?tab=rights": "User:reader",
    "access?tab=masking": "orders card",
    "access?tab=quotas": "Add quota",
    "access?tab=tokens": "bonus-token",
    "access?tab=audit": "User:ceo",
}
"""All pages by their addresses, and what an administrator reads there."""
BASE64 = re.compile(r"[A-Za-z0-9+/]{16,}={0,2}")


class MaskedReader:
    """The browser of the reader, and the address of the console."""

    def __init__(self, page: Any, address: str) -> None:
        self.page = page
        self._address = address

    def open(self, where: str) -> Any:
        """Look through what was shown so far, and open another page."""
        self.look()
        self.page.goto(f"http://{self._address}/{where}")
        return self.page

    def look(self, *more: str) -> None:
        """Assert that neither the page, a reply nor one of these texts has what is hidden."""
        replies = self.page.evaluate("() => window.replies")
        urls = [reply["url"] for reply in replies]
        texts = [reply["text"] for reply in replies] + [self.page.content(), *more]
        fields = self.page.evaluate(
            "() => [...document.querySelectorAll('input, textarea')].map((x) => x.value)"
        )
        for text in [*texts, *decoded(texts), *fields]:
            for secret in (*MASKED, *HIDDEN):
                place = max(0, text.find(secret) - 100)
                assert secret not in text, f"{text[place : place + 300]} among {urls}"

    def statuses(self, path: str) -> set[int]:
        """The statuses of the replies of a path, such as `/search`."""
        replies = self.page.evaluate("() => window.replies")
        return {reply["status"] for reply in replies if reply["url"].partition("?")[0].endswith(path)}


def decoded(texts: list[str]) -> Iterator[str]:
    """What is written in base64 in these texts."""
    for text in texts:
        for match in BASE64.finditer(text):
            word = match[0].rstrip("=")
            yield base64.b64decode(word + "=" * (-len(word) % 4) if len(word) % 4 != 1 else word[:-1]).decode(
                "latin-1"
            )


def api(server: Server, method: str, path: str, body: Any = None) -> Any:
    reply = httpx.request(
        method,
        f"http://{server.http}/api/v1/{path}",
        json=body,
        auth=("ceo", PASSWORD),
        timeout=30,
        trust_env=False,
    )
    assert reply.is_success, reply.text
    return reply.json()


def add_users(folder: Path) -> None:
    for user in ("ceo", "reader"):
        command = [sys.executable, "-m", "mainstem", "users", "add", user, "--data", str(folder)]
        subprocess.run(
            [*command, "--new-password-file", "-"], input=PASSWORD, text=True, check=True, capture_output=True
        )


def fill(server: Server) -> None:
    """Topics of which much is masked for the reader; groups, subscriptions, and what others have."""
    for topic in ("orders", "payments", "bonus", "dead"):
        api(server, "POST", "topics", {"topic": topic})
    header = [{"name": "auth", "value": HEADER}]
    orders = [{"value": VALUE | {"n": n}, "key": f"open-{n // 6}", "headers": header} for n in range(EVENTS)]
    api(server, "POST", "topics/orders/events", orders)
    payments = [{"value": VALUE | {"n": n}, "key": KEY} for n in range(12)]
    for topic in ("payments", "bonus"):
        api(server, "POST", f"topics/{topic}/events", payments)
    for topic in ("orders", "payments"):
        for path, kind in (("card", "hidden"), ("contact.email", "hashed"), ("contact.phone", "last4")):
            rule = {"rule": f"{topic} {path}", "topic": topic, "path": path, "kind": kind}
            api(server, "POST", "masking-rules", rule)
    for topic, path in (("orders", "header.auth"), ("payments", "key"), ("dead", "$"), ("dead", "key")):
        rule = {"rule": f"{topic} {path}", "topic": topic, "path": path, "kind": "hidden"}
        api(server, "POST", "masking-rules", rule)
    api(server, "POST", "tokens", {"name": "bonus-token", "expires_in_ms": 3_600_000})
    for group in ("billing", "ceo-group"):
        api(server, "POST", f"groups/{group}/reset", {"to": "earliest", "topics": ["orders", "bonus"]})
    for name in ("work", "bonus-work"):
        settings = {"dead_letter_topic": "dead", "lock_ms": 600_000}
        api(
            server,
            "POST",
            "subscriptions",
            {"subscription": name, "topics": ["payments"], "settings": settings},
        )
        pulled = api(server, "POST", f"subscriptions/{name}:pull", {"consumer": "one", "max_events": 6})
        tokens = [delivery["token"] for delivery in pulled["deliveries"]]
        api(server, "POST", f"subscriptions/{name}:reject", {"tokens": tokens[:3], "reason": "is closed"})
    allow(server)


def allow(server: Server) -> None:
    """Let the reader read and manage what is theirs, and nothing of the server."""
    entries = [
        *(("TOPIC", topic, "READ") for topic in ("orders", "payments", "dead")),
        *(("TOPIC", topic, "DESCRIBE_CONFIGS") for topic in ("orders", "payments", "dead")),
        ("GROUP", "billing", "READ"),
        *(("SUBSCRIPTION", "work", operation) for operation in ("READ", "ALTER", "DESCRIBE_CONFIGS")),
    ]
    acls = [
        {"resource_type": kind, "name": name, "principal": "User:reader", "operation": operation}
        | {"permission": "ALLOW"}
        for kind, name, operation in entries
    ]
    api(server, "POST", "acls", {"acls": acls})


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("masked") / "data"
    add_users(folder)
    with Server(
        folder,
        http="SASL_PLAINTEXT://127.0.0.1:0",
        log_level="warning",
        access_control=True,
        super_users="User:ceo",
    ) as running:
        running.http = running.http.rpartition("//")[2]
        fill(running)
        yield running


@pytest.fixture
def page(guarded: Server, browser: Any) -> Iterator[Any]:
    """A new browser at the console, which asks for a login."""
    with opened_page(browser, expected="status of 4[0-9][0-9]", timeout_ms=40_000) as page:
        page.add_init_script(f"({RECORD_REPLIES})()")
        page.goto(f"http://{guarded.http}/#/topics")
        page.get_by_role("heading", name="Log in").wait_for()
        yield page


def log_in(page: Any, user: str) -> None:
    fill_login(page, user, PASSWORD)
    page.get_by_role("option").first.wait_for()


@pytest.fixture
def reader(page: Any, guarded: Server) -> Iterator[MaskedReader]:
    """Somebody who is logged in as reader. What was shown and received is looked through at the end, too."""
    log_in(page, "reader")
    someone = MaskedReader(page, guarded.http)
    yield someone
    someone.look()


def test_the_lists_have_what_is_theirs(reader: MaskedReader) -> None:
    for where, expected in (("topics", 3), ("groups", 1), ("subscriptions", 1)):
        page = reader.open(f"#/{where}")
        page.get_by_role("option").first.wait_for()
        assert page.get_by_role("option").count() == expected
    reader.open("#/").get_by_role("heading", name="Overview").wait_for()
    reader.open("#/groups/billing").get_by_text("orders").first.wait_for()
    for where in ("topics/bonus", "groups/ceo-group", "subscriptions/bonus-work", "event/bonus/0/0"):
        page = reader.page
        page.evaluate("where => { location.hash = where }", f"#/{where}")
        page.get_by_role("alert").filter(has_text="may not").first.wait_for()
        page.evaluate("() => { window.replies = []; location.hash = '#/topics' }")
        page.get_by_role("option").first.wait_for()


@pytest.mark.parametrize("topic", ["orders", "payments"])
def test_a_topic_and_its_tail_are_masked(reader: MaskedReader, guarded: Server, topic: str) -> None:
    page = reader.open(f"#/topics/{topic}?tab=partitions")
    for tab in ("Settings", "Live tail"):
        page.get_by_role("tab", name=tab).click()
        reader.look()
    page.get_by_text("connecting").wait_for(state="detached")
    api(guarded, "POST", f"topics/{topic}/events", [{"value": VALUE, "key": "open-1000"}])
    page.get_by_role("option").first.click()
    page.locator(".payload").get_by_text("[hidden]").first.wait_for()
    assert page.get_by_role("tab", name="Publish").count() == 0
    assert page.get_by_role("button", name="Delete…").count() == 0


def test_an_event_is_masked_in_every_view(reader: MaskedReader) -> None:
    page = reader.open("#/event/orders/0/5")
    page.get_by_text("[hidden]").first.wait_for()
    page.get_by_text(re.compile("^.?hash:[0-9a-f]{16}")).first.wait_for()
    page.get_by_text("4567").first.wait_for()
    for tab in ("Raw", "Hex", "Headers 1", "Subscriptions", "Key timeline", "Diff", "Pretty"):
        page.get_by_role("tab", name=tab).click()
        page.locator("[role=tabpanel] .loading").wait_for(state="detached")
        reader.look()
        if tab == "Headers 1":
            page.locator(".headers").get_by_text("[hidden]").wait_for()
        if tab == "Key timeline":
            page.get_by_text("6 events with this key").wait_for()
        if tab == "Diff":
            page.get_by_text("Compared with").wait_for()
    assert page.get_by_role("button", name="Replay…").count() == 0
    page = reader.open("#/event/payments/0/5")
    page.locator("dl.facts").get_by_text("[hidden]").wait_for()
    page.get_by_role("tab", name="Key timeline").click()
    page.get_by_text("masked for you").first.wait_for()


def test_matches_are_masked(reader: MaskedReader) -> None:
    page = reader.open("#/search?topics=orders,payments&q=n:>3")
    page.locator(".results[aria-busy=false]").wait_for()
    page.get_by_role("option").first.click()
    page.locator(".detail .payload").get_by_text("[hidden]").first.wait_for()


def test_facets_and_comparisons_leave_out_what_is_masked(reader: MaskedReader) -> None:
    page = reader.open("#/search?topics=orders&q=n:>3")
    page.locator(".results[aria-busy=false]").wait_for()
    page.get_by_role("button", name="Count all matches").click()
    page.get_by_text(re.compile("^Over all 236 matches")).wait_for()
    page.get_by_role("button", name="Compare with the rest").click()
    page.get_by_text("Share among the matches").wait_for()
    assert reader.statuses("/facets") == reader.statuses("/compare") == {200}


def test_a_search_of_what_is_masked_is_refused_with_a_reason(reader: MaskedReader) -> None:
    page = reader.open("#/search?topics=orders&q=n:1")
    for query in ("card:4*", "contact.email:a*", "contact:x", "header.auth:b*", "Bern", "NOT card:4*"):
        page.locator(".results[aria-busy=false]").wait_for()
        page.get_by_role("combobox", name="Search query").fill("n:1")
        page.keyboard.press("Enter")
        page.get_by_role("option").first.wait_for()
        page.get_by_role("combobox", name="Search query").fill(query)
        page.keyboard.press("Enter")
        page.get_by_text("masked for you").first.wait_for()
        page.get_by_role("option").first.wait_for(state="detached")
    assert 422 in reader.statuses("/search")


def test_a_trace_is_refused_with_a_reason(reader: MaskedReader) -> None:
    page = reader.open("#/trace?value=open-1")
    page.get_by_text("masked for you").first.wait_for()


@pytest.mark.parametrize("kind", ["ndjson", "csv"])
def test_an_export_is_masked(reader: MaskedReader, kind: str) -> None:
    page = reader.open("#/search?topics=orders&q=n:>3")
    page.locator(".results[aria-busy=false]").wait_for()
    page.get_by_role("button", name="Export…").click()
    page.get_by_label("Format").select_option(kind)
    page.get_by_text("will be exported").wait_for()
    with page.expect_download() as saved:
        page.get_by_role("button", name="Export", exact=True).click()
    text = saved.value.path().read_text()
    assert text.count("[hidden]") >= 236
    reader.look(text)


def test_events_and_dead_letters_of_a_subscription_are_masked(reader: MaskedReader) -> None:
    for tab in ("events", "dead", "consumers", "settings"):
        page = reader.open(f"#/subscriptions/work?tab={tab}")
        page.get_by_role("tab", selected=True).wait_for()
        if tab in ("events", "dead"):
            page.locator("tbody tr").first.wait_for()
            assert page.locator("tbody").get_by_text("[hidden]").count() >= 3
        reader.look()


def test_pages_of_administrators_are_neither_offered_nor_shown(reader: MaskedReader) -> None:
    for tab in ("", "users", "rights", "masking", "quotas", "audit"):
        page = reader.open(f"#/access?tab={tab}")
        page.get_by_role("tab", name="API tokens", selected=True).wait_for()
        assert page.get_by_role("tab").count() == 1, "one's own tokens, and nothing of others"
    statuses = page.evaluate(
        """async () => {
          const reading = ["users", "acls", "masking-rules", "quotas", "topics/__mainstem_audit"];
          const replies = reading.map((path) => fetch(`/api/v1/${path}`));
          return Promise.all(replies.map(async (reply) => (await reply).status));
        }"""
    )
    assert statuses == [403] * 5


@pytest.mark.timeout(240)
def test_without_a_login_no_page_shows_or_receives_anything(page: Any, guarded: Server) -> None:
    stranger = MaskedReader(page, guarded.http)
    for where in PAGES:
        page.goto("about:blank")
        page.goto(f"http://{guarded.http}/#/{where}")
        page.get_by_role("heading", name="Log in").wait_for()
        assert not page.locator("nav.side").is_visible()
        assert page.locator("[role=tab], [role=option], table").count() == 0
        stranger.look()
        replies = page.evaluate("() => window.replies")
        assert {reply["url"] for reply in replies if reply["status"] != 401} <= {
            f"http://{guarded.http}/api/v1/me"
        }


@pytest.mark.timeout(240)
def test_an_administrator_sees_every_page(page: Any, guarded: Server) -> None:
    log_in(page, "ceo")
    for where, text in PAGES.items():
        page.goto(f"http://{guarded.http}/#/{where}")
        page.locator("main").get_by_text(text).first.wait_for()
        assert page.locator("nav.side").is_visible()
        assert page.get_by_text(re.compile("may not|masked for you")).count() == 0, where
        assert "[hidden]" not in page.content(), where

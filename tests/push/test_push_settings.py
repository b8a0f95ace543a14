"""What push settings may say: endpoints, headers, secrets, addresses; signatures; the window."""

from __future__ import annotations

import asyncio
import base64
import json

import pytest

from mainstem.contract import Event
from mainstem.push.addresses import AllowedAddresses, AllowError
from mainstem.push.client import PushRequest
from mainstem.push.limits import PushLimits
from mainstem.push.payload import make_request
from mainstem.push.push_stats import MinuteRate
from mainstem.push.signature import signature_headers, webhook_id
from mainstem.push.window import PAUSE_S_MAX, PushWindow
from mainstem.queue_contract import Delivery
from mainstem.queues.push_settings import EndpointUrl, PushSettings, push_problem, shown_endpoint

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("http://localhost", (False, "localhost", 80, "/")),
        ("https://Example.com:8443/a?b=c", (True, "example.com", 8443, "/a?b=c")),
        ("HTTPS://example.com?x", (True, "example.com", 443, "/?x")),
        ("http://[::1]:81/", (False, "::1", 81, "/")),
        ("http://2130706433/", (False, "2130706433", 80, "/")),
    ],
)
def test_the_parts_of_an_endpoint(url: str, parts: tuple[bool, str, int, str]) -> None:
    assert EndpointUrl.parse(url) == parts


def test_the_host_header_has_the_port_where_it_is_not_the_usual_one() -> None:
    urls = ("http://a", "http://a:443", "https://a", "http://[::1]", "http://[::1]:8080")
    assert [EndpointUrl.parse(url).authority for url in urls] == ["a", "a:443", "a", "[::1]", "[::1]:8080"]


@pytest.mark.parametrize(
    "url",
    [
        *("", "example.com", "ftp://a/", "http://", "http:///a", "http://a b/", "http://a/\r\nx: y"),
        *("http://user:secret@a/", "http://a#b", "http://a:0/", "http://a:65536/", "http://a:x/"),
        *("http://[::1/", "http://[fe80::1%25eth0]/", "http://a\\@b/", "http://exämple.com/"),
        *("http://-a/", "http://a/" + "x" * 2_000, "http://[v1.x]/"),
    ],
)
def test_what_is_no_endpoint(url: str) -> None:
    with pytest.raises(ValueError):
        EndpointUrl.parse(url)
    assert "endpoint" in str(push_problem(PushSettings(endpoint=url)))


@pytest.mark.parametrize(
    "change",
    [
        {"deadline_ms": 99},
        {"deadline_ms": 600_001},
        {"concurrency": 0},
        {"concurrency": 1_001},
        {"payload": "xml"},
        {"headers": (("a b", "x"),)},
        {"headers": (("", "x"),)},
        {"headers": (("a", ""),)},
        {"headers": (("a", "x\r\nb: c"),)},
        {"headers": (("a", " x"),)},
        {"headers": (("a", "é"),)},
        {"headers": (("a", "x" * 4_001),)},
        {"headers": (("a", "x"), ("A", "y"))},
        {"headers": tuple((f"a{number}", "x") for number in range(21))},
        *({"headers": ((name, "x"),)} for name in ("Host", "content-length", "Webhook-Id", "mainstem-x")),
        {"secret": "secret"},
        {"secret": "whsec_"},
        {"secret": "whsec_$$$"},
        {"secret": "whsec_" + base64.b64encode(b"x" * 23).decode()},
        {"secret": "whsec_" + base64.b64encode(b"x" * 65).decode()},
        {"secret": " ".join([SECRET] * 4)},
    ],
)
def test_settings_that_cannot_be_used(change: dict[str, object]) -> None:
    problem = push_problem(PushSettings(**{"endpoint": "http://a/", **change}))  # type: ignore[arg-type]
    assert problem
    secret = str(change.get("secret", ""))
    assert len(secret) < 10 or secret not in problem


def test_nothing_secret_is_shown() -> None:
    push = PushSettings(
        endpoint="https://a/hook?token=secret-1",
        headers=(("authorization", "Bearer secret-2"),),
        secret=f"{SECRET} {SECRET}",
    )
    assert push_problem(push) is None
    assert repr(push) == str(push) == "PushSettings(https://a/hook?…)"
    assert len(push.secrets) == 2


@pytest.mark.parametrize(
    ("endpoint", "shown"),
    [
        ("https://a.example/hook", "https://a.example/hook"),
        ("https://a.example:8443", "https://a.example:8443"),
        ("http://[::1]:80/?", "http://[::1]:80/?…"),
        ("https://user:secret@a.example/x@y", "https://a.example/x@y"),
        (
            "https://hooks.slack.com/services/T00000000/B00000000/abcdEFGHijkl1234MNOP5678",
            "https://hooks.slack.com/services/T00000000/B00000000/…",
        ),
        ("https://api.telegram.org/bot123456:AAE-secretsecret/send", "https://api.telegram.org/…/send"),
        ("https://a.example/payment-notifications/in", "https://a.example/payment-notifications/in"),
        ("https://a.example/PaymentNotification?a=1", "https://a.example/…?…"),
        ("secretsecretsecret1", "secretsecretsecret1"),
    ],
)
def test_an_endpoint_is_shown_without_what_may_be_secret(endpoint: str, shown: str) -> None:
    assert shown_endpoint(endpoint) == shown
    assert PushSettings(endpoint=endpoint).shown_endpoint == shown


# ----------------------------------------------------------------------------------------------------------
# addresses

PUBLIC = "93.184.216.34"
NEVER = (
    *("169.254.169.254", "169.254.0.1", "fe80::1", "fd00:ec2::254", "168.63.129.16", "100.100.100.200"),
    *("0.0.0.0", "0.1.2.3", "::", "224.0.0.1", "ff02::1", "240.0.0.1", "255.255.255.255"),
    *("::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::", "::169.254.169.254"),
    *("::ffff:0.0.0.0", "nonsense", ""),
)


@pytest.mark.parametrize("address", NEVER)
def test_addresses_that_are_never_allowed(address: str) -> None:
    everything = "loopback,private,public,0.0.0.0/0,::/0"
    assert AllowedAddresses.parse(everything).problem(address)


@pytest.mark.parametrize(
    ("setting", "allowed"),
    [
        ("loopback", {"127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"}),
        ("private", {"10.1.2.3", "192.168.1.1", "fd12::1", "100.64.0.1"}),
        ("public", {PUBLIC, "2606:2800:220:1::1", "64:ff9b::808:808"}),
        ("10.1.0.0/16, ::1/128", {"10.1.2.3", "::1"}),
        (PUBLIC, {PUBLIC}),
        ("", set()),
    ],
)
def test_only_what_the_setting_lists_is_allowed(setting: str, allowed: set[str]) -> None:
    addresses = {
        *("127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "10.1.2.3", "10.2.2.3", "192.168.1.1"),
        *("fd12::1", "100.64.0.1", PUBLIC, "2606:2800:220:1::1", "::ffff:10.2.2.3", "64:ff9b::7f00:1"),
        *("64:ff9b::808:808", "::ffff:0:7f00:1", "64:ff9b:1::7f00:1", "4000::1"),
    }
    permitted = AllowedAddresses.parse(setting)
    chosen = {address for address in addresses if permitted.problem(address) is None}
    assert chosen - {"10.2.2.3", "::ffff:10.2.2.3"} == allowed
    assert ("10.2.2.3" in chosen) == (setting == "private")


@pytest.mark.parametrize("setting", ["localhost", "10.1.0.0/33", "10.1.2.3/16", "all", "loopback;private"])
def test_a_setting_that_cannot_be_read_is_refused(setting: str) -> None:
    with pytest.raises(AllowError, match="push_allow"):
        AllowedAddresses.parse(setting)


# ----------------------------------------------------------------------------------------------------------
# signatures


def test_a_signature_is_that_of_the_standard() -> None:
    # The example of the reference implementations of Standard Webhooks.
    secret = base64.b64decode(SECRET.removeprefix("whsec_"))
    message_id, body = "msg_p5jXN8AQM9LWM0D4loKWxJek", b'{"test": 2432232314}'
    expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    headers = dict(signature_headers(message_id, 1_614_265_330_999, body, [secret, b"x" * 24]))
    assert headers["webhook-id"] == message_id
    assert headers["webhook-timestamp"] == "1614265330"
    assert headers["webhook-signature"].split()[0] == expected
    assert len(headers["webhook-signature"].split()) == 2
    assert "webhook-signature" not in dict(signature_headers(message_id, 0, body, []))


def test_the_id_of_an_event_is_its_own_and_stays() -> None:
    event = Event("a.b", 0, 1, 5, None, b"x")
    others = [
        Event("a.b", 1, 0, 5, None, b""),
        Event("a.b", 0, 1, 6, None, b""),
        Event("a", 0, 1, 5, None, b""),
    ]
    ids = {webhook_id("s", event), *(webhook_id("s", other) for other in others), webhook_id("t", event)}
    assert len(ids) == 5
    assert all("." not in text and len(text) == 31 for text in ids)
    assert webhook_id("s", Event("a.b", 0, 1, 5, b"k", b"y")) == webhook_id("s", event)


# ----------------------------------------------------------------------------------------------------------
# the window, and rates


def test_the_window_doubles_with_each_round_and_shrinks_once_for_a_round() -> None:
    window = PushWindow(100)
    sizes = []
    for _ in range(8):
        sizes.append(window.size)
        for _ in range(window.size):
            window.succeeded()
    assert sizes == [1, 2, 4, 8, 16, 32, 64, 100]
    sent_in = window.round
    for _ in range(10):
        window.failed(sent_in)
    assert (window.size, window.pause_s) == (50, 0.0)
    for _ in range(50):
        window.succeeded()
    assert window.size in (50, 51), "from there on it grows by 1 a round"


def test_an_endpoint_that_fails_by_itself_gets_a_pause_that_grows_and_ends_with_a_success() -> None:
    window = PushWindow(8)
    pauses = []
    for _ in range(12):
        window.failed(window.round)
        pauses.append(window.pause_s)
        assert window.size == 1
    assert pauses[:4] == [0.1, 0.2, 0.4, 0.8]
    assert pauses[-1] == PAUSE_S_MAX
    window.succeeded()
    assert window.pause_s == 0.0


def test_the_window_follows_a_smaller_maximum() -> None:
    window = PushWindow(64)
    for _ in range(63):
        window.succeeded()
    window.maximum = 3
    assert window.size == 3
    window.failed(window.round)
    assert window.size == 1


def test_a_rate_is_that_of_the_last_minute() -> None:
    rate = MinuteRate(1_000.0)
    for _ in range(30):
        rate.add(1_000.0)
    assert rate.per_s(1_010.0) == 3.0
    assert rate.per_s(1_055.0) == pytest.approx(30 / 55)
    assert rate.per_s(1_065.0) == 0.0


def test_a_subscription_takes_half_of_what_is_left_and_one_request_always() -> None:
    limits = PushLimits(requests_max=8, bytes_max=100)
    assert (limits.events_for(0), limits.bytes_for(5)) == (4, 50)
    for _ in range(4):
        limits.take(10)
    assert (limits.events_for(4), limits.bytes_for(4)) == (2, 30)
    for _ in range(4):
        limits.take(20)
    assert (limits.events_for(1), limits.events_for(0)) == (0, 1)
    assert (limits.bytes_for(1), limits.bytes_for(0)) == (0, 1)
    limits.release(20)
    limits.release(60)
    assert (limits.events_for(3), limits.bytes_for(3)) == (1, 30)


# ----------------------------------------------------------------------------------------------------------
# requests


def test_a_group_may_have_a_name_that_is_no_text_of_a_header() -> None:
    name, event = "gr\u00fc\u00dfe\r\nx: y", Event("t", 0, 1, 5, None, b"{}")

    async def yield_to_loop() -> None:
        pass

    async def run() -> PushRequest:
        push = PushSettings(endpoint="http://localhost/")
        return await make_request(name, push, Delivery(event, "token", 1, 0), 0, yield_to_loop)

    request = asyncio.run(run())
    assert dict(request.headers)["mainstem-subscription"] == "gr%C3%BC%C3%9Fe%0D%0Ax%3A%20y"
    assert json.loads(request.body)["subscription"] == name

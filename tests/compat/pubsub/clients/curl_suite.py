"""curl on the REST interface, as the documentation of Google's service has it.

python -m tests.compat.pubsub.clients.curl_suite HOST:PORT [CASE…]
"""

from __future__ import annotations

import base64
import json
import subprocess
from typing import Any

from tests.compat.cases import Address, case, fresh, main, same


def curl(method: str, path: str, body: object = None) -> tuple[int, Any]:
    """The status and the body of the answer."""
    command = ["curl", "-sS", "-X", method, "-w", "\n%{http_code}", f"http://{Address.value}/v1/{path}"]
    if body is not None:
        command += ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    text, _, status = done.stdout.rpartition("\n")
    return int(status), json.loads(text)


@case("publish-pull-and-acknowledge")
def publish_pull_and_acknowledge() -> None:
    topic = f"projects/compat/topics/{fresh('orders')}"
    name = f"projects/compat/subscriptions/{fresh('billing')}"
    same(curl("PUT", topic)[1]["name"], topic)
    status, made = curl("PUT", name, {"topic": topic, "labels": {"team": "shop"}})
    same((status, made["topic"], made["labels"]), (200, topic, {"team": "shop"}))
    data = base64.b64encode(b'{"order": 7}').decode()
    messages = [{"data": data, "attributes": {"shop": "Köln"}, "orderingKey": "customer-7"}]
    status, answer = curl("POST", f"{topic}:publish", {"messages": messages})
    same((status, len(answer["messageIds"])), (200, 1))
    _, answer = curl("POST", f"{name}:pull", {"maxMessages": 10})
    (received,) = answer["receivedMessages"]
    message = received["message"]
    same((message["data"], message["attributes"]), (data, {"shop": "Köln"}))
    same(message["orderingKey"], "customer-7")
    assert message["publishTime"].endswith("Z"), message
    same(curl("POST", f"{name}:acknowledge", {"ackIds": [received["ackId"]]}), (200, {}))
    same(curl("DELETE", name), (200, {}))
    same(curl("DELETE", topic), (200, {}))


@case("errors-have-googles-shape")
def errors() -> None:
    status, answer = curl("GET", f"projects/compat/topics/{fresh('none')}")
    same((status, answer["error"]["code"], answer["error"]["status"]), (404, 404, "NOT_FOUND"))
    topic = f"projects/compat/topics/{fresh('orders')}"
    curl("PUT", topic, {})
    status, answer = curl("PUT", topic, {})
    same((status, answer["error"]["status"]), (409, "ALREADY_EXISTS"))
    status, answer = curl("POST", f"{topic}:publish", {"messages": [{}]})
    same((status, answer["error"]["status"]), (400, "INVALID_ARGUMENT"))


if __name__ == "__main__":
    main()

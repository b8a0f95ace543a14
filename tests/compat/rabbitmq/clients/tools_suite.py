"""rabbitmq-c's command-line tools (Debian: amqp-tools).

python -m tests.compat.rabbitmq.clients.tools_suite HOST:PORT [CASE…]
"""

from __future__ import annotations

import subprocess

from tests.compat.cases import Address, case, main, same


def run(tool: str, *arguments: str, body: str = "") -> str:
    """Its output; fails the case with its errors when its code is not 0."""
    command = [tool, "--url", f"amqp://guest:guest@{Address.value}/%2f", *arguments]
    done = subprocess.run(command, input=body, capture_output=True, text=True, timeout=30, check=False)
    same(done.returncode, 0, f"{tool}: {done.stderr}")
    return done.stdout


@case("declare-publish-get-delete")
def declare_publish_get_delete() -> None:
    same(run("amqp-declare-queue", "--queue", "tools-orders").strip(), "tools-orders")
    run("amqp-publish", "--routing-key", "tools-orders", "--persistent", "--body", "order 7")
    same(run("amqp-get", "--queue", "tools-orders"), "order 7")
    same(run("amqp-delete-queue", "--queue", "tools-orders").strip(), "0")


@case("consume")
def consume() -> None:
    run("amqp-declare-queue", "--queue", "tools-many")
    for i in range(5):
        run("amqp-publish", "--routing-key", "tools-many", "--body", f"order {i}\n")
    same(
        run("amqp-consume", "--queue", "tools-many", "--count", "5", "cat"),
        "".join(f"order {i}\n" for i in range(5)),
    )
    run("amqp-delete-queue", "--queue", "tools-many")


@case("lines")
def lines() -> None:
    run("amqp-declare-queue", "--queue", "tools-lines")
    run("amqp-publish", "--routing-key", "tools-lines", "--line-buffered", body="a\nb\nc\n")
    same(run("amqp-consume", "--queue", "tools-lines", "--count", "3", "cat"), "a\nb\nc\n")
    run("amqp-delete-queue", "--queue", "tools-lines")


@case("missing-queue")
def missing_queue() -> None:
    command = ["amqp-get", "--url", f"amqp://guest:guest@{Address.value}/%2f", "--queue", "tools-no-such"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    same(done.returncode, 1)
    same("404" in done.stderr or "NOT_FOUND" in done.stderr, True, done.stderr)


if __name__ == "__main__":
    main()

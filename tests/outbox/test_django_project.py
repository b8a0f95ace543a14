"""A small Django project in a temporary folder: outbox, relay, subscribers and inbox, as users have them."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer

from tests.support.server import Server

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60.0

PROJECT = {
    "manage.py": """
import os, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "shop.settings"
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
""",
    "shop/__init__.py": "",
    "shop/settings.py": """
SECRET_KEY = "of a test"
INSTALLED_APPS = ["mainstem.django", "shop"]
SQLITE = {"ENGINE": "django.db.backends.sqlite3", "NAME": "shop.db", "OPTIONS": {"timeout": 20}}
DATABASES = {"default": SQLITE}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
""",
    "shop/models.py": """
from django.db import models

class Entry(models.Model):
    order_id = models.IntegerField()
""",
    "shop/migrations/__init__.py": "",
    "shop/events.py": """
import mainstem
from django.db import transaction
from mainstem import Event
from mainstem.django.inbox import Inbox
from mainstem.django.outbox import Outbox

stream = mainstem.connect()
orders = stream.topic("orders", dict[str, int], key=lambda order: str(order["id"]))
outbox, inbox = Outbox("shop"), Inbox()
outbox.relay(stream)

def place(order_id: int) -> None:
    with transaction.atomic():
        outbox.add(orders, {"id": order_id})
        if order_id < 0:
            raise ValueError("no such order")

@orders.subscriber(group="ledger")
def book(event: Event[dict[str, int]]) -> None:
    from shop.models import Entry
    with transaction.atomic():
        if inbox.first_time(event, group="ledger"):
            Entry.objects.create(order_id=event.value["id"])
""",
    "shop/management/__init__.py": "",
    "shop/management/commands/__init__.py": "",
    "shop/management/commands/subscribers.py": """
from mainstem.django.command import MainstemCommand

class Command(MainstemCommand):
    stream = "shop.events:stream"
""",
    "shop/management/commands/place.py": """
from django.core.management.base import BaseCommand
from shop.events import place

class Command(BaseCommand):
    def add_arguments(self, parser):
        parser.add_argument("numbers", type=int, nargs="+")

    def handle(self, *args, **options):
        for number in options["numbers"]:
            try:
                place(number)
            except ValueError:
                pass
""",
}


class DjangoProject:
    """The project in a folder, against a server."""

    def __init__(self, folder: Path, address: str) -> None:
        self.folder = folder
        self.environ = {**os.environ, "MAINSTEM_AT": address, "PYTHONPATH": str(ROOT / "src")}
        for name, text in PROJECT.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)

    def manage(self, *arguments: str) -> str:
        command = [sys.executable, "manage.py", *arguments]
        done = subprocess.run(command, cwd=self.folder, env=self.environ, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    @contextlib.contextmanager
    def subscribers(self) -> Iterator[None]:
        """`manage.py subscribers`, which has to end by itself when it is asked to."""
        with open(self.folder / "log", "wb") as log:
            command = [sys.executable, "manage.py", "subscribers", "--grace", "10"]
            process = subprocess.Popen(command, cwd=self.folder, env=self.environ, stdout=log, stderr=log)
        try:
            yield
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        except BaseException:
            print((self.folder / "log").read_text()[-4000:])
            raise
        finally:
            process.kill()
            process.wait()

    def booked(self, count: int) -> list[int]:
        """The orders that have entries, as soon as there are `count`."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            with contextlib.closing(sqlite3.connect(self.folder / "shop.db")) as database:
                numbers = [number for (number,) in database.execute("SELECT order_id FROM shop_entry")]
            if len(numbers) >= count:
                return sorted(numbers)
            assert time.monotonic() < deadline, f"entries of {numbers}, not {count}"
            time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_project_books_each_order_once(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    with Server(tmp_path / "data", durability="os", http="127.0.0.1:0") as server:
        project = DjangoProject(folder, server.address)
        project.manage("makemigrations", "shop")
        project.manage("migrate")
        assert "No changes" in project.manage("makemigrations", "--check", "mainstem")
        project.manage("place", "1", "2", "-1", "3")
        with project.subscribers():
            assert project.booked(3) == [1, 2, 3]
            again = Producer({"bootstrap.servers": server.address, "log_level": 0})
            again.produce("orders", b'{"id":2}', key=b"2", headers={"mainstem-outbox": b"shop/2"})
            again.produce("orders", b'{"id":9}', key=b"2", headers={"mainstem-outbox": b"shop/9"})
            assert again.flush(10) == 0
            assert project.booked(4) == [1, 2, 3, 9]
        project.manage("place", "4")
        with project.subscribers():
            assert project.booked(5) == [1, 2, 3, 4, 9]

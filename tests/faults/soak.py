"""The soak: a real server and real clients for as long as you like, one random fault after the other, judged
by the ack checker after each.

    python -m tests.faults.soak [--minutes M] [--seed N] [--only KIND ...]

Owns: the list of kinds, the faults of processes and disks, and the report. The faults that clients are,
soak_attacks has; those of a stopped folder, soak_damage. Writers, reader and judgement are kill9's. A life is
one data folder: it is judged whole after each fault, so lives are short, and each begins with an empty
folder. Memory and open files are reported for the lives in which the process never ends. Exit code 1, with
seed and every broken promise, if one is broken.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from confluent_kafka import KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.faults import attacks, disks, kill9, soak_attacks, soak_damage
from tests.faults.sync_faults import SyncFaults, sync_process_of
from tests.support import lazyfs
from tests.support.server import Server

Blow = Callable[[Server, random.Random], None]
A_LIFE = 15
DISK_MEGABYTES = 2048
"""Of the small disk on which the full disk is played. A life's own events have to fit beside its reserve."""


def freeze(server: Server, rng: random.Random) -> None:
    """Stop the whole server for a while, as when a machine is moved or swaps."""
    assert server.process is not None
    os.kill(server.process.pid, signal.SIGSTOP)
    time.sleep(rng.uniform(0.1, 4.0))
    os.kill(server.process.pid, signal.SIGCONT)


def freeze_sync_process(server: Server, rng: random.Random) -> None:
    """The disk does not answer for a while."""
    (helper, *_) = _children(server)
    os.kill(helper, signal.SIGSTOP)
    time.sleep(rng.uniform(0.1, 4.0))
    os.kill(helper, signal.SIGCONT)


def vanish(server: Server, rng: random.Random) -> None:
    """Clients come, say half of something, and go or stay silent."""
    lines = []
    for _ in range(rng.randint(1, 200)):
        with contextlib.suppress(OSError):
            line = socket.create_connection((server.host, server.port), 2.0)
            line.sendall(rng.randbytes(rng.randint(0, 40)) if rng.random() < 0.5 else b"\0\0\1\0\0\0\0\3")
            lines.append(line)
    time.sleep(rng.uniform(0.0, 1.0))
    for line in lines:
        if rng.random() < 0.5:  # a reset in place of an orderly end
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        line.close()


def fill_the_disk(server: Server, rng: random.Random) -> None:
    """Fill the disk, and make room again."""
    taken = server.data.with_name("somebody-elses")
    leave = rng.choice((0, 1 << 16, 4 << 20))
    with contextlib.suppress(OSError), taken.open("wb", buffering=0) as file:  # the server takes room too
        while os.statvfs(taken.parent).f_bavail * os.statvfs(taken.parent).f_frsize > leave:
            file.write(bytes(1 << 20 if leave else 4096))
    time.sleep(rng.uniform(0.5, 4.0))
    taken.unlink()


def fail_a_sync(server: Server, rng: random.Random) -> None:
    """Let one fdatasync or fsync of the sync process fail; then kill and restart the server."""
    (helper, *_) = _children(server)
    inject = f"inject=fdatasync,fsync:error=EIO:when={rng.randint(1, 20)}"
    command = ["strace", "-f", "-q", "-o", "/dev/null", "-p", str(helper), "-e", "trace=fdatasync,fsync"]
    with subprocess.Popen([*command, "-e", inject], stderr=subprocess.DEVNULL) as tracer:
        time.sleep(rng.uniform(0.5, 2.0))
        tracer.terminate()
    server.restart(kill=True)


def die_at_a_call(server: Server, rng: random.Random) -> None:
    """It is killed as it begins a system call: a rename of a checkpoint or snapshot, a write to a segment or
    the journal, a sync, a cut. If the helper made that call, it dies alone, and then the server."""
    assert server.process is not None
    call, highest = rng.choice(
        (("rename", 4), ("pwrite64", 400), ("openat", 30), ("ftruncate", 3), ("fdatasync", 60))
    )
    inject = f"inject={call}:signal=SIGKILL:when={rng.randint(1, highest)}"
    command = ["strace", "-f", "-q", "-o", "/dev/null", "-e", f"trace={call}", "-e", inject]
    for pid in (server.process.pid, *_children(server)):
        command += ["-p", str(pid)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as tracer:
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.process.wait(rng.uniform(2.0, 6.0))
        tracer.terminate()
    server.restart(kill=True)


@contextlib.contextmanager
def topics_come_and_go(server: Server) -> Iterator[None]:
    """Topics are created, written to, emptied and deleted meanwhile. Each deletion asks for a checkpoint."""
    ending = threading.Event()

    def work(worker: int) -> None:
        client = {"bootstrap.servers": server.address, **kill9.CLIENT}
        admin, producer = AdminClient(client), Producer({**client, "message.timeout.ms": 5000})
        number = 0
        while not ending.is_set():
            number += 1
            name = f"short-lived-{worker}-{number}"
            with contextlib.suppress(KafkaException):
                admin.create_topics([NewTopic(name, 1, 1)])[name].result(10)
                producer.produce(name, b"a few bytes")
                producer.flush(10)
                for deleted in admin.delete_records([TopicPartition(name, 0, 1)]).values():
                    deleted.result(10)
                admin.delete_topics([name])[name].result(10)

    threads = [threading.Thread(target=work, args=(worker,), daemon=True) for worker in range(3)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ending.set()
        for thread in threads:
            thread.join(60)


def kill_under_deletions(server: Server, rng: random.Random) -> None:
    """kill -9 for the sync process, again and again, while topics come and go."""
    with topics_come_and_go(server):
        for _ in range(rng.choice((1, 3, 20))):
            time.sleep(rng.uniform(0.02, 0.6))
            if (helper := sync_process_of(server)) is not None:
                os.kill(helper, signal.SIGKILL)
        time.sleep(rng.uniform(0.0, 1.5))
    kill9.accepts_again(server)


def segment_hiccups(sync_faults: SyncFaults) -> Blow:
    """The syncs of all segments fail for a moment, or a few, while topics come and go; those of the journal
    succeed."""

    def blow(server: Server, rng: random.Random) -> None:
        with topics_come_and_go(server):
            for _ in range(rng.randint(1, 3)):
                time.sleep(rng.uniform(0.0, 1.5))
                sync_faults.hiccup(rng.uniform(0.1, 1.0), "/partitions/")
        kill9.accepts_again(server)

    return blow


def _children(server: Server) -> list[int]:
    assert server.process is not None
    pid = server.process.pid
    return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def power_cut(cut: Callable[[], None]) -> Blow:
    """All stops at once, and of what was not synced, chance chooses what the disk has."""

    def blow(server: Server, rng: random.Random) -> None:
        server.kill()
        cut()
        server.start(same_port=True)

    return blow


@dataclass(frozen=True, slots=True)
class FaultKind:
    """A kind of fault, and what its runs need."""

    blow: Blow | None
    """None: it is made for each life, by `of_syncs` or for a disk of its own (power-cut)."""
    ends_the_process: bool = False
    small_disk: bool = False
    durability: tuple[str, ...] = ("disk",)
    settings: Mapping[str, object] = field(default_factory=dict)
    """Of the server, beside those of kill9's loop."""
    of_syncs: Callable[[SyncFaults], Blow] | None = None
    """Makes the blow for a server whose syncs fail on request."""


KINDS = {
    "kill": FaultKind(kill9.kill_and_restart, True, durability=("disk", "os")),
    "helper": FaultKind(kill9.kill_sync_process),
    "freeze": FaultKind(freeze, durability=("disk", "os")),
    "stalled-disk": FaultKind(freeze_sync_process),
    "vanish": FaultKind(vanish, durability=("disk", "os")),
    "full-disk": FaultKind(fill_the_disk, small_disk=True),
    "failed-sync": FaultKind(fail_a_sync, True),
    "crash-point": FaultKind(die_at_a_call, True, durability=("disk", "os")),
    "power-cut": FaultKind(None, True),
    "segment-hiccup": FaultKind(None, of_syncs=segment_hiccups),
    "helper-under-deletions": FaultKind(kill_under_deletions),
    "joins": FaultKind(
        soak_attacks.join_without_end,
        settings={"group_memory_max_bytes": soak_attacks.GROUP_MEMORY_BYTES},
    ),
    "http-bodies": FaultKind(soak_attacks.begin_bodies, settings=soak_attacks.HTTP),
    "many-topics": FaultKind(soak_attacks.ask_for_many_topics),
    "hostile-names": FaultKind(soak_attacks.forge_lines, settings={**soak_attacks.HTTP, "log_level": "info"}),
    "lost-segments": FaultKind(soak_damage.lose_segments, ends_the_process=True, settings=soak_attacks.HTTP),
    "damaged-checkpoint": FaultKind(None, ends_the_process=True, of_syncs=soak_damage.damage_checkpoint),
    "start-on-full-disk": FaultKind(soak_damage.start_on_a_full_disk, ends_the_process=True, small_disk=True),
    "no-descriptors": FaultKind(soak_attacks.take_descriptors, settings=soak_attacks.HTTP),
}


def missing_requirement(name: str) -> str | None:
    """What this machine lacks for this kind of fault; None: nothing."""
    if name == "power-cut":
        return lazyfs.why_not()
    if name in ("failed-sync", "crash-point") and not shutil.which("strace"):
        return "strace"
    return "the right to mount" if KINDS[name].small_disk and os.geteuid() else None


@dataclass(slots=True)
class ProcessCost:
    """Memory and descriptors of one server's process after each fault."""

    resident_bytes: list[int] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)
    deaths: int = 0
    """By kill -9, of its processes in turn."""

    def look(self, server: Server) -> None:
        """Measure once more."""
        self.resident_bytes.append(attacks.status(server, "VmRSS"))
        self.descriptors.append(attacks.descriptors(server))
        self.deaths = server.deaths

    def __str__(self) -> str:
        """First and last."""
        first, last = (self.resident_bytes[place] / attacks.MB for place in (0, -1))
        return f"{first:.0f} -> {last:.0f} MB, {self.descriptors[0]} -> {self.descriptors[-1]} open files"


def life(name: str, kind: FaultKind, blows: int, seed: int) -> tuple[int, int, str]:
    """One folder from its start to its end: promises that were made and kept, deaths by kill -9, and what
    the process cost."""
    seen = ProcessCost()
    durability = random.Random(seed).choice(kind.durability)
    with tempfile.TemporaryDirectory(prefix="soak-") as parent, contextlib.ExitStack() as stack:
        folder = Path(parent)
        if kind.small_disk:
            folder = stack.enter_context(disks.tmpfs(folder / "disk", DISK_MEGABYTES))
        strike, environ = kind.blow, {}
        if kind.of_syncs is not None:
            sync_faults = SyncFaults(folder / "rules")
            strike, environ = kind.of_syncs(sync_faults), sync_faults.environ
        elif strike is None:
            folder /= "disk"
            strike = power_cut(stack.enter_context(lazyfs.mounted(folder, seed)))

        def blow(server: Server, rng: random.Random) -> None:
            strike(server, rng)
            seen.look(server)

        ledger = kill9.run(
            folder,
            durability=durability,
            kills=blows,
            seed=seed,
            blow=blow,
            environ=environ,
            settings=kind.settings,
        )
    died = f", {seen.deaths} deaths by kill -9" if seen.deaths else ""
    cost = died if kind.ends_the_process else f", {seen}"
    summary = f"{name}, durability {durability}: {blows} faults, seed {seed}{cost}"
    return ledger.promises, seen.deaths, summary


def soak(minutes: float, seed: int, names: list[str]) -> bool:
    """Lives until the time is over; whether every promise was kept."""
    rng = random.Random(seed)
    faults: Counter[str] = Counter()
    promises = deaths = 0
    broken = False
    ends = time.monotonic() + minutes * 60
    while time.monotonic() < ends:
        name, life_seed = rng.choice(names), rng.randrange(1 << 32)
        try:
            life_promises, died, summary = life(name, KINDS[name], A_LIFE, life_seed)
        except AssertionError as error:
            broken = True
            print(f"BROKEN {name}, seed {life_seed}: {error}", flush=True)
            continue
        promises += life_promises
        deaths += died
        faults[name] += A_LIFE
        print(f"{time.strftime('%H:%M:%S')}  {life_promises:7,} kept  {summary}", flush=True)
    listed = ", ".join(f"{count} {name}" for name, count in sorted(faults.items()))
    print(
        f"{minutes:g} minutes, {sum(faults.values())} faults ({listed}), {deaths} deaths by kill -9, "
        f"{promises:,} promises kept"
    )
    return not broken


def main() -> None:
    """Say what will run, run it."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description="Random faults, judged.")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--only", nargs="+", choices=sorted(KINDS), default=sorted(KINDS))
    options = parser.parse_args()
    names = list(options.only)
    for name in options.only:
        if missing := missing_requirement(name):
            print(f"NOT SHOWN HERE: {name}: {missing}")
            names.remove(name)
    print(f"seed {options.seed}, {options.minutes:g} minutes of {', '.join(names)}", flush=True)
    sys.exit(0 if soak(options.minutes, options.seed, names) else 1)


if __name__ == "__main__":
    main()

"""The drawings of the docs' concepts: `python -m tests.docs_drawings` writes them to docs/drawings.

Owns: what they have in common (boxes, rows of cells, arrows, colours for light and dark) and each drawing of
a concept. Sizes are in pixels of a drawing that is 480 wide. A test compares the files with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from html import escape
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "docs" / "drawings"
WIDTH = 480
CELL = 34
"""The side of a cell, an event in a log."""

STYLE = """<style>
svg.draw{--d-text:#1f2937;--d-soft:#6b7280;--d-line:#94a3b8;--d-fill:#f8fafc;--d-done:#e2e8f0}
svg.draw{--d-accent:#0b7a6e;--d-tint:#d3f3ee;--d-bad:#b4342d;--d-bad-tint:#fde4e1}
@media(prefers-color-scheme:dark){
svg.draw{--d-text:#e5e7eb;--d-soft:#9ca3af;--d-line:#64748b;--d-fill:#1e2430;--d-done:#3a4454}
svg.draw{--d-accent:#4fd1c1;--d-tint:#123f3a;--d-bad:#f59a93;--d-bad-tint:#4a2320}
}
svg.draw text{font:14px system-ui,sans-serif;fill:var(--d-text);text-anchor:middle}
svg.draw .small{font-size:12.5px;fill:var(--d-soft)}
svg.draw .left{text-anchor:start}
svg.draw .right{text-anchor:end}
svg.draw .mono{font-family:ui-monospace,monospace}
svg.draw .strong{fill:var(--d-accent);font-weight:600}
svg.draw .wrong{fill:var(--d-bad);font-weight:600}
svg.draw rect{fill:var(--d-fill);stroke:var(--d-line);stroke-width:1.3}
svg.draw rect.done{fill:var(--d-done)}
svg.draw rect.now{fill:var(--d-tint);stroke:var(--d-accent)}
svg.draw rect.bad{fill:var(--d-bad-tint);stroke:var(--d-bad)}
svg.draw rect.gap{fill:none;stroke-dasharray:4 4}
svg.draw path{fill:none;stroke:var(--d-line);stroke-width:1.6}
svg.draw path.tip{fill:var(--d-line);stroke:none}
svg.draw path.now{stroke:var(--d-accent)}
svg.draw path.tip.now{fill:var(--d-accent);stroke:none}
svg.draw path.bad{stroke:var(--d-bad)}
svg.draw path.tip.bad{fill:var(--d-bad);stroke:none}
</style>
"""


class Drawing:
    """A drawing as it grows. `says` is what a reader who does not see it is given in its place."""

    def __init__(self, height: int, says: str) -> None:
        self._height = height
        self._says = says
        self._parts: list[str] = []

    def text(self, x: float, y: float, words: str, kind: str = "") -> None:
        """Words around (x, y), or beginning or ending there with the kinds `left` and `right`."""
        self._parts.append(f'<text x="{x:g}" y="{y:g}" class="{kind}">{escape(words)}</text>')

    def rect(self, x: float, y: float, width: float, height: float, kind: str = "") -> None:
        """A rectangle with its upper left corner at (x, y)."""
        size = f'width="{width:g}" height="{height:g}" rx="5"'
        self._parts.append(f'<rect x="{x:g}" y="{y:g}" {size} class="{kind}"/>')

    def box(self, x: float, y: float, width: float, words: str, kind: str = "", height: float = 34) -> None:
        """A rectangle with words in its middle."""
        self.rect(x, y, width, height, kind)
        self.text(x + width / 2, y + height / 2 + 5, words, "strong" if kind == "now" else "")

    def cells(self, x: float, y: float, words: Iterable[str], kinds: str = "") -> None:
        """Events in a row. `kinds` has a letter for each: d done, n now, x failed, g gone, . plain."""
        names = {"d": "done", "n": "now", "x": "bad", "g": "gap", ".": ""}
        for index, word in enumerate(words):
            kind = names[kinds[index]] if index < len(kinds) else ""
            self.rect(x + index * (CELL + 3), y, CELL, CELL, kind)
            colour = {"now": "strong", "bad": "wrong", "gap": "small"}.get(kind, "")
            self.text(x + index * (CELL + 3) + CELL / 2, y + CELL / 2 + 5, word, colour)

    def arrow(self, *points: tuple[float, float], kind: str = "") -> None:
        """A line through points, with a tip at the last one; its last part is level or upright."""
        line = " ".join(f"{x:g} {y:g}" for x, y in points)
        (x0, y0), (x, y) = points[-2:]
        if y == y0:
            step = 8 if x > x0 else -8
            tip = f"M{x:g} {y:g}l{-step} -4.5v9z"
        else:
            step = 8 if y > y0 else -8
            tip = f"M{x:g} {y:g}l-4.5 {-step}h9z"
        self._parts.append(f'<path d="M{line}" class="{kind}"/><path d="{tip}" class="tip {kind}"/>')

    def svg(self) -> str:
        """The file."""
        head = f'<svg xmlns="http://www.w3.org/2000/svg" class="draw" viewBox="0 0 {WIDTH} {self._height}"'
        says = f'role="img" aria-label="{escape(self._says)}"'
        return "\n".join([f'{head} width="{WIDTH}" {says}>', STYLE + "\n".join(self._parts), "</svg>", ""])


def event() -> Drawing:
    """What an event has."""
    draw = Drawing(178, "An event has a key, a value, headers and a time.")
    rows = (
        ("key", "ann"),
        ("value", '{"id": 1, "total": 9.5}'),
        ("headers", "source: web"),
        ("time", "2026-11-30 12:00"),
    )
    for index, (name, value) in enumerate(rows):
        y = 10 + index * 40
        draw.text(110, y + 22, name, "small right")
        draw.rect(124, y, 300, CELL, "now" if name == "value" else "")
        draw.text(138, y + 22, value, "left mono")
    return draw


def topic() -> Drawing:
    """Publishers, a topic, readers."""
    draw = Drawing(170, "Two services publish to a topic; two other services each read all of its events.")
    draw.text(240, 22, "orders", "strong")
    draw.cells(149, 62, "12345")
    for index, (publisher, reader) in enumerate((("web", "billing"), ("app", "audit"))):
        y = 30 + index * 64
        draw.box(8, y, 84, publisher)
        draw.arrow((92, y + 17), (118, y + 17), (118, 79), (143, 79))
        draw.box(388, y, 84, reader)
        draw.arrow((337, 79), (362, 79), (362, y + 17), (383, y + 17))
    draw.text(240, 122, "reading removes nothing", "small")
    return draw


def partition() -> Drawing:
    """A topic of three partitions."""
    draw = Drawing(196, "A topic of three partitions, each with events numbered from 0, in their order.")
    draw.text(20, 22, "orders, in 3 partitions", "left strong")
    for index, count in enumerate((7, 5, 6)):
        y = 36 + index * 44
        draw.text(20, y + 22, f"partition {index}", "left small")
        draw.cells(110, y, [str(number) for number in range(count)])
        draw.arrow((110 + count * 37 + 36, y + 17), (110 + count * 37 + 4, y + 17), kind="now")
    draw.text(462, 186, "new events are added at the end", "right small")
    return draw


def key() -> Drawing:
    """A failed event keeps its own key waiting."""
    draw = Drawing(
        206, "The first event of ann fails: the next ones of ann wait for it; those of bo and cy pass."
    )
    lanes = (("ann", ("1", "4", "6"), "xgg"), ("bo", ("2", "5"), "dn"), ("cy", ("3", "7", "8"), "ddn"))
    for index, (name, numbers, kinds) in enumerate(lanes):
        y = 14 + index * 60
        draw.text(58, y + 23, name, "right mono")
        draw.cells(76, y, numbers, kinds)
    draw.text(198, 30, "1 failed, and is tried again later:", "left wrong")
    draw.text(198, 48, "4 and 6 wait for it, in their order", "left small")
    draw.text(198, 96, "other keys do not wait", "left small")
    draw.text(198, 156, "one at a time for each key", "left small")
    draw.text(76, 198, "grey: done · green: in its handler", "left small")
    return draw


def offset() -> Drawing:
    """Places in a partition."""
    draw = Drawing(
        150, "Events 0 to 7 of a partition. A group has read up to 4 and goes on at 5; the next event gets 8."
    )
    draw.cells(92, 58, "01234567", "ddddd...")
    draw.rect(92 + 8 * 37, 58, CELL, CELL, "gap")
    draw.text(92 + 8 * 37 + 17, 80, "8", "small")
    draw.text(294, 24, "billing goes on at 5", "strong")
    draw.arrow((294, 30), (294, 54), kind="now")
    draw.arrow((109, 120), (109, 96))
    draw.text(109, 138, "oldest that is kept", "small")
    draw.arrow((405, 120), (405, 96))
    draw.text(405, 138, "the next event", "small")
    return draw


def group() -> Drawing:
    """Two groups read one topic."""
    draw = Drawing(
        216, "Two groups: each gets all events. The two processes of billing share the partitions."
    )
    for index in range(3):
        y = 30 + index * 54
        draw.text(52, y + 22, f"partition {index}", "small")
        draw.cells(96, y, ["", "", ""])
    draw.rect(282, 8, 190, 108, "gap")
    draw.text(377, 27, "group billing", "strong")
    draw.box(296, 36, 162, "process 1", height=30)
    draw.box(296, 76, 162, "process 2", height=30)
    draw.rect(282, 136, 190, 68, "gap")
    draw.text(377, 155, "group audit", "strong")
    draw.box(296, 164, 162, "process 3", height=30)
    draw.arrow((208, 41), (291, 41), kind="now")
    draw.arrow((208, 95), (236, 95), (236, 60), (291, 60), kind="now")
    draw.arrow((208, 149), (262, 149), (262, 91), (291, 91), kind="now")
    for y in (53, 107, 161):
        draw.arrow((208, y), (222, y), (222, 184), (291, 184))
    return draw


def subscription() -> Drawing:
    """Workers share a log event by event."""
    draw = Drawing(
        190, "A subscription knows of each event of the log whether it is done, with a worker, or ready."
    )
    draw.text(20, 26, "orders, as the subscription orders.billing sees it", "left strong")
    draw.cells(92, 42, "01234567", "dndnnd..")
    for index, (x, name) in enumerate(((146, "worker A"), (220, "worker B"), (257, "worker C"))):
        left = 50 + index * 134
        draw.box(left, 116, 112, name)
        draw.arrow((x, 78), (x, 92 + index * 0), (left + 56, 92), (left + 56, 112), kind="now")
    draw.text(92, 178, "grey: done · green: with a worker · plain: ready", "left small")
    return draw


def acknowledgement() -> Drawing:
    """What ends a delivery."""
    draw = Drawing(
        206, "A handler that returns acknowledges: done. One that fails, or dies, gets the event again."
    )
    draw.box(8, 78, 82, "ready")
    draw.arrow((90, 95), (146, 95))
    draw.text(118, 86, "take", "small")
    draw.box(150, 78, 116, "in its handler", "now")
    draw.arrow((266, 95), (384, 95), kind="now")
    draw.text(325, 86, "returns", "small")
    draw.box(388, 78, 84, "done")
    draw.arrow((208, 78), (208, 40), (49, 40), (49, 74), kind="bad")
    draw.text(128, 30, "raises: a failed attempt", "small")
    draw.arrow((208, 112), (208, 150), (49, 150), (49, 116), kind="bad")
    draw.text(8, 172, "the process is killed: its lock ends after 30 s at most", "small left")
    draw.text(8, 194, "Either way the event is delivered again.", "left small")
    return draw


def retry() -> Drawing:
    """Attempts and the waits between them."""
    draw = Drawing(
        140, "Three attempts that fail, with waits of 1, 2 and 4 seconds, and a fourth that succeeds."
    )
    draw.arrow((14, 92), (470, 92))
    for x, number in ((24, 1), (96, 2), (200, 3)):
        draw.box(x, 50, 34, str(number), "bad")
    draw.box(388, 50, 34, "4", "now")
    for x, words in ((77, "1 s"), (165, "2 s"), (311, "4 s")):
        draw.text(x, 114, words, "small")
    draw.text(24, 32, "attempts fail", "left wrong")
    draw.text(405, 32, "succeeds", "strong")
    draw.text(470, 134, "time", "right small")
    return draw


def delay() -> Drawing:
    """An event that is not delivered before its time."""
    draw = Drawing(
        140, "Published at 12:00 with a delay of 5 minutes; handlers get it at 12:05; readers see it at once."
    )
    draw.arrow((14, 84), (470, 84))
    draw.box(24, 42, 92, "published")
    draw.rect(120, 42, 218, 34, "gap")
    draw.text(229, 64, "not before 12:05", "small")
    draw.box(342, 42, 116, "in its handler", "now")
    draw.text(70, 104, "12:00", "small")
    draw.text(400, 104, "12:05", "small")
    draw.text(24, 128, "plain readers see the event from 12:00", "left small")
    draw.text(24, 28, "delay=timedelta(minutes=5)", "left mono")
    return draw


def dead_letter() -> Drawing:
    """Where an event is put that cannot be handled."""
    draw = Drawing(
        184, "Event 3 failed five times: a copy is in the topic of dead letters; the others go on."
    )
    draw.text(20, 26, "orders", "left strong")
    draw.cells(20, 38, "012345", "dddxdn")
    draw.box(320, 38, 140, "group billing", "now")
    draw.arrow((242, 55), (316, 55), kind="now")
    draw.arrow((390, 72), (390, 131), (316, 131), kind="bad")
    draw.text(398, 106, "5 failures", "wrong left")
    draw.text(20, 104, "orders.billing.dead", "left strong")
    draw.cells(20, 114, ["3"], "x")
    draw.rect(60, 114, 252, 34, "gap")
    draw.text(72, 136, "reason, attempts, where it was", "left small")
    draw.text(20, 174, "Nothing is lost, and the events behind it go on.", "left small")
    return draw


def redrive() -> Drawing:
    """After the mend, the group gets its dead letters again."""
    draw = Drawing(160, "Redriving delivers event 3 to billing again. Audit does not notice.")
    draw.text(20, 26, "orders.billing.dead", "left strong")
    draw.cells(20, 38, ["3"], "n")
    draw.arrow((58, 55), (296, 55), kind="now")
    draw.text(177, 46, "redrive", "small")
    draw.box(300, 38, 160, "group billing", "now")
    draw.box(300, 98, 160, "group audit")
    draw.text(20, 120, "delivered to this group alone:", "left small")
    draw.text(20, 138, "other groups notice nothing", "left small")
    return draw


def replay() -> Drawing:
    """Reading from an earlier place."""
    draw = Drawing(172, "A new group reads all events from the first; another process reads from Tuesday on.")
    draw.text(20, 84, "orders", "left strong")
    draw.cells(92, 62, "012345678", "dddddddd.")
    draw.box(96, 8, 150, "a new service", "now", 30)
    draw.arrow((109, 38), (109, 58), kind="now")
    draw.text(254, 28, "from the first event", "left small")
    draw.box(226, 122, 150, "a report", "now", 30)
    draw.arrow((238, 122), (238, 100), kind="now")
    draw.text(384, 142, "since Tuesday", "left small")
    draw.text(92, 162, "billing stays at 8", "left small")
    return draw


def retention() -> Drawing:
    """Old events are deleted by age or size, not by reading."""
    draw = Drawing(
        136, "Events older than seven days are deleted in whole segments; all younger ones are kept."
    )
    for index, (kinds, label) in enumerate((("ggg", "deleted"), ("...", "kept"), ("...", "kept"))):
        x = 20 + index * 150
        draw.rect(x - 6, 30, 3 * 37 + 9, 46, "gap")
        draw.cells(x, 36, [str(index * 3 + number) for number in range(3)], kinds)
        draw.text(x + 54, 20, label, "small" if index == 0 else "strong")
    draw.arrow((456, 98), (20, 98))
    draw.text(152, 120, "7 days ago", "small")
    draw.text(456, 120, "now", "right small")
    draw.arrow((152, 84), (152, 96))
    return draw


def search() -> Drawing:
    """A query over all topics."""
    draw = Drawing(196, "A query finds the two events with order 4711 in the topics orders and payments.")
    draw.box(20, 10, 200, "order:4711", "now")
    draw.arrow((120, 44), (120, 66), kind="now")
    for index, (name, kinds) in enumerate(
        (("orders", "..n..."), ("payments", "....n."), ("shipping", "......"))
    ):
        y = 70 + index * 40
        draw.text(20, y + 22, name, "left small")
        draw.cells(92, y, [""] * 6, kinds)
    for y in (87, 127):
        draw.arrow((318, y), (352, y), kind="now")
    draw.text(358, 92, "order placed", "left")
    draw.text(358, 132, "order paid", "left")
    return draw


def outbox() -> Drawing:
    """A transaction writes a row and an event; a relay publishes it."""
    draw = Drawing(190, "A transaction writes a row and an event; the relay publishes what was committed.")
    draw.rect(8, 22, 188, 120, "gap")
    draw.text(102, 16, "your transaction", "strong")
    draw.box(16, 36, 172, "a row of orders")
    draw.box(16, 90, 172, "its event: outbox", "now")
    draw.arrow((196, 107), (262, 107), kind="now")
    draw.text(229, 98, "commit", "small")
    draw.box(266, 90, 76, "relay", "now")
    draw.arrow((342, 107), (388, 107), kind="now")
    draw.cells(392, 90, "01", "d.")
    draw.text(427, 80, "orders", "small")
    draw.text(8, 168, "A rollback takes both. After a crash the relay reads the log back,", "left small")
    draw.text(8, 184, "so that each event is in it once.", "left small")
    return draw


def inbox() -> Drawing:
    """An event that comes twice has its effect once."""
    draw = Drawing(
        196, "Event 4711 comes twice. The first time its id and the effect are written; then neither is."
    )
    for index, (first, second, kind) in enumerate(
        (("is new", "the effect", "now"), ("is known", "nothing", ""))
    ):
        y = 34 + index * 84
        draw.box(8, y, 76, "4711")
        draw.arrow((84, y + 17), (120, y + 17), kind=kind)
        draw.rect(124, y - 10, 268, 54, "gap")
        draw.box(134, y, 116, f"its id {first}", kind)
        draw.arrow((250, y + 17), (280, y + 17), kind=kind)
        draw.box(284, y, 98, second, kind)
        draw.arrow((392, y + 17), (420, y + 17), kind=kind)
        draw.text(426, y + 22, "done", "left")
    draw.text(258, 16, "one transaction", "strong")
    draw.text(8, 90, "comes again:", "left small")
    draw.text(8, 190, "Id and effect are committed together, or neither is.", "left small")
    return draw


DRAWINGS: tuple[Callable[[], Drawing], ...] = (
    event, topic, partition, key, offset, group, subscription, acknowledgement, retry, delay, dead_letter,
    redrive, replay, retention, search, outbox, inbox,
)  # fmt: skip


def files() -> dict[str, str]:
    """The files of all drawings, by name."""
    return {f"{make.__name__.replace('_', '-')}.svg": make().svg() for make in DRAWINGS}


if __name__ == "__main__":
    for name, content in files().items():
        (FOLDER / name).write_text(content)

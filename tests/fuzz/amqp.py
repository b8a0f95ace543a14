"""The fuzz target of AMQP 0-9-1: a client that has opened a connection and sends any bytes.

Owns: `amqp` and its first inputs. What holds beside "no crash": the server sends whole frames only, closes
with an error that the protocol has, and keeps no more of a message than was sent.
"""

from __future__ import annotations

from mainstem.amqp.properties import Properties
from mainstem.doors.amqp091 import frames
from mainstem.doors.amqp091.connection_context import ConnectionState
from mainstem.doors.amqp091.control_methods import ChannelClose, ChannelOpen, ConnectionClose
from mainstem.doors.amqp091.method import Method
from mainstem.doors.amqp091.method_codec import METHODS
from mainstem.doors.amqp091.methods import BasicAck, BasicPublish, QueueDeclare
from tests.doors.amqp091.wire_kit import WireRig, message_frames

CODES = {320, 403, 404, 405, 406, 501, 502, 503, 504, 505, 506, 530, 540}


def amqp(data: bytes) -> None:
    """The first byte says how far the client is and how the rest is cut."""
    if not data:
        return
    rig = WireRig()
    if data[0] & 1:
        rig.open(1)
    elif data[0] & 2:
        rig.log_in()
    step, rest = (data[0] >> 2) + 1, data[1:]
    for start in range(0, len(rest), step):
        if rig.transport.is_closed:
            break
        rig.feed(rest[start : start + step])
    for _, method in rig.received():
        if isinstance(method, ConnectionClose | ChannelClose):
            assert method.reply_code in CODES, method
    assert rig.budget.used_bytes <= len(rest)
    rig.connection.lost()
    rig.settle()
    assert rig.budget.used_bytes == 0
    assert rig.connection.state is ConnectionState.CLOSED


def seeds() -> list[bytes]:
    """Each method with its defaults, a message, and a handshake."""
    methods: list[Method] = [kind() for kind in METHODS.values()]
    order = BasicPublish("orders", "created.eu")
    message = message_frames(1, order, Properties(delivery_mode=2, headers={"order": 1017}), b"{}")
    work = [frames.method_frame(1, method) for method in (ChannelOpen(), QueueDeclare("orders"), BasicAck(1))]
    return [
        b"\xfd" + b"".join(frames.method_frame(1, method) for method in methods),
        b"\xff" + message + b"".join(work),
        b"\x05" + message,
        b"\xfd" + frames.HEARTBEAT_FRAME + frames.method_frame(0, ConnectionClose(200, "bye")),
        b"\xfc"
        + frames.PROTOCOL_HEADER
        + b"".join(frames.method_frame(0, method) for method in methods[:14]),
        b"\xfe" + b"".join(frames.method_frame(0, method) for method in methods[4:8]),
    ]

"""grpc.testing.TestService, which gRPC's interop clients call, as a service of the Pub/Sub door.

Owns: its messages, those fields of them that the clients use, and its methods. Called by `interop_server.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from mainstem.doors.contract import DoorContext
from mainstem.doors.pubsub.calls import Code, RpcCall, RpcError, RpcMethod, RpcRequests, RpcResponses

SERVICE = "/grpc.testing.TestService/"
ECHO_HEADER = "x-grpc-test-echo-initial"
ECHO_TRAILER = "x-grpc-test-echo-trailing-bin"
_SCALARS = {
    "bool": FieldDescriptorProto.TYPE_BOOL,
    "int32": FieldDescriptorProto.TYPE_INT32,
    "bytes": FieldDescriptorProto.TYPE_BYTES,
    "string": FieldDescriptorProto.TYPE_STRING,
}
FIELDS: Mapping[str, Mapping[str, tuple[int, str]]] = {
    "Payload": {"body": (2, "bytes")},
    "EchoStatus": {"code": (1, "int32"), "message": (2, "string")},
    "SimpleRequest": {
        "response_size": (2, "int32"),
        "payload": (3, "Payload"),
        "response_status": (7, "EchoStatus"),
        "fill_server_id": (9, "bool"),
    },
    "SimpleResponse": {"payload": (1, "Payload"), "server_id": (4, "string")},
    "StreamingInputCallRequest": {"payload": (1, "Payload")},
    "StreamingInputCallResponse": {"aggregated_payload_size": (1, "int32")},
    "ResponseParameters": {"size": (1, "int32"), "interval_us": (2, "int32")},
    "StreamingOutputCallRequest": {
        "response_parameters": (2, "ResponseParameters*"),
        "payload": (3, "Payload"),
        "response_status": (7, "EchoStatus"),
    },
    "StreamingOutputCallResponse": {"payload": (1, "Payload")},
}
"""Message -> field -> number and type; `*`: repeated."""


def _messages() -> dict[str, Any]:
    file = FileDescriptorProto(name="interop.proto", package="grpc.testing", syntax="proto3")
    for name, fields in FIELDS.items():
        message = DescriptorProto(name=name)
        for field, (number, kind) in fields.items():
            repeated = kind.endswith("*")
            made = message.field.add(name=field, number=number)
            made.label = (
                FieldDescriptorProto.LABEL_REPEATED if repeated else FieldDescriptorProto.LABEL_OPTIONAL
            )
            if kind in _SCALARS:
                made.type = _SCALARS[kind]
            else:
                made.type = FieldDescriptorProto.TYPE_MESSAGE
                made.type_name = f".grpc.testing.{kind.rstrip('*')}"
        file.message_type.append(message)
    pool = DescriptorPool()
    pool.Add(file)
    return {name: GetMessageClass(pool.FindMessageTypeByName(f"grpc.testing.{name}")) for name in FIELDS}


MESSAGES = _messages()


def _response(kind: str, size: int, **fields: str) -> bytes:
    """A response with a payload of `size` zeros."""
    return bytes(MESSAGES[kind](payload={"body": bytes(size)}, **fields).SerializeToString())


def _prepare(call: RpcCall, request: Any) -> None:
    """Echo the metadata; end the call with the status that the request asks for."""
    if ECHO_HEADER in call.metadata:
        call.response_headers = {ECHO_HEADER: call.metadata[ECHO_HEADER]}
    if ECHO_TRAILER in call.metadata:
        call.response_trailers = {ECHO_TRAILER: call.metadata[ECHO_TRAILER]}
    status = request.response_status
    if status.code:
        raise RpcError(Code(status.code), status.message)


def empty_call(call: RpcCall, message: bytes) -> bytes:
    return b""


def unary_call(call: RpcCall, message: bytes) -> bytes:
    request = MESSAGES["SimpleRequest"].FromString(message)
    _prepare(call, request)
    fields = {"server_id": "mainstem"} if request.fill_server_id else {}
    return _response("SimpleResponse", request.response_size, **fields)


async def _send_all(request: Any, responses: RpcResponses) -> None:
    for parameters in request.response_parameters:
        if parameters.interval_us:
            await asyncio.sleep(parameters.interval_us / 1e6)
        await responses.ready()
        responses.send(_response("StreamingOutputCallResponse", parameters.size))


async def full_duplex_call(call: RpcCall, requests: RpcRequests, responses: RpcResponses) -> None:
    """Also StreamingOutputCall, whose client sends a single request."""
    async for message in requests:
        request = MESSAGES["StreamingOutputCallRequest"].FromString(message)
        _prepare(call, request)
        await _send_all(request, responses)


async def streaming_input_call(call: RpcCall, requests: RpcRequests, responses: RpcResponses) -> None:
    size = 0
    async for message in requests:
        size += len(MESSAGES["StreamingInputCallRequest"].FromString(message).payload.body)
    answer = MESSAGES["StreamingInputCallResponse"](aggregated_payload_size=size)
    responses.send(answer.SerializeToString())


def handlers(context: DoorContext) -> Mapping[str, RpcMethod]:
    """The methods, which anybody may call."""
    return {
        f"{SERVICE}EmptyCall": RpcMethod(rights=(), unary=empty_call),
        f"{SERVICE}UnaryCall": RpcMethod(rights=(), unary=unary_call),
        f"{SERVICE}StreamingOutputCall": RpcMethod(rights=(), stream=full_duplex_call),
        f"{SERVICE}FullDuplexCall": RpcMethod(rights=(), stream=full_duplex_call),
        f"{SERVICE}StreamingInputCall": RpcMethod(rights=(), stream=streaming_input_call),
    }

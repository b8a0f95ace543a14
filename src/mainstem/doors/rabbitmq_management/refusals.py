"""What the management API answers in the place of a result: RabbitMQ's JSON of an error.

Owns: `ApiRefusal`, and how errors of the model and of the engine look to clients of RabbitMQ. Refuses: to say
more of a failure than that there was one; the log has it.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from mainstem.amqp.errors import AmqpError
from mainstem.contract import InvalidArgument, NotAuthorized, StreamError

STATUS_OF_CODE = {311: 400, 402: 400, 403: 401, 404: 404, 405: 400, 406: 400, 530: 404, 540: 400}
"""AMQP's code -> HTTP's."""
ERROR_OF_STATUS = {400: "bad_request", 401: "not_authorised", 404: "not_found"}


class ApiRefusal(Exception):
    """A response with an error, as RabbitMQ words it."""

    def __init__(
        self,
        status: int,
        error: str,
        reason: str | Sequence[str],
        *,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(f"{status} {error}: {reason}")
        self.status = status
        self.headers = headers or {}
        self.body = msgspec.json.encode({"error": error, "reason": reason})


def not_in_api() -> ApiRefusal:
    """There is no such object."""
    return ApiRefusal(404, "Object Not Found", "Not Found")


def bad_request(reason: str | Sequence[str]) -> ApiRefusal:
    """The request makes no sense."""
    return ApiRefusal(400, "bad_request", reason)


def access_refused() -> ApiRefusal:
    """The user has no right to it; RabbitMQ spells it so."""
    return ApiRefusal(401, "not_authorised", "Access refused.")


def refusal_of(error: AmqpError | StreamError) -> ApiRefusal:
    """How clients see an error of the model or of the engine."""
    if isinstance(error, AmqpError):
        status = STATUS_OF_CODE.get(error.code, 500)
        if status == 401:
            return access_refused()
        _, _, detail = error.text.partition(" - ")
        return ApiRefusal(status, ERROR_OF_STATUS.get(status, "internal_error"), detail or error.text)
    if isinstance(error, NotAuthorized):
        return access_refused()
    if isinstance(error, InvalidArgument):
        return bad_request(str(error))
    return ApiRefusal(503, "service_unavailable", str(error))

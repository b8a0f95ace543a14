"""Runs the functions of methods: rights before, errors after, quotas and counts beside them.

Owns: the table of methods, and what every call goes through, whether it came by gRPC or REST. Refuses:
methods that there are not, calls of somebody who could not succeed, and what a quota has no room for.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Mapping
from typing import TYPE_CHECKING

from mainstem.access_contract import Operation, ResourceType
from mainstem.doors.pubsub.calls import Code, RpcCall, RpcError, RpcMethod
from mainstem.doors.pubsub.errors import known_status
from mainstem.promise import Promise
from mainstem.quota_contract import QuotaKey

if TYPE_CHECKING:
    from mainstem.doors.contract import DoorContext

log = logging.getLogger("mainstem.pubsub")

PUBLISHES = (Operation.WRITE, ResourceType.TOPIC)
READS = (Operation.READ, ResourceType.SUBSCRIPTION)
ANSWERS = ("/google.pubsub.v1.Subscriber/Acknowledge", "/google.pubsub.v1.Subscriber/ModifyAckDeadline")
"""Methods that no quota refuses: what is not acknowledged is sent again, which takes more of the quota."""


class MethodDispatcher:
    """The methods of a door."""

    def __init__(self, context: DoorContext, methods: Mapping[str, RpcMethod]) -> None:
        self.context = context
        self.methods = methods
        self.counts: Counter[tuple[str, Code]] = Counter()
        """Calls that have ended, by method and status."""
        self._services = {path.rpartition("/")[0] for path in methods}

    def find(self, path: str) -> RpcMethod:
        """The method of this path. RpcError: there is none."""
        method = self.methods.get(path)
        if method is not None:
            return method
        service, _, name = path.rpartition("/")
        if service in self._services:
            raise RpcError(Code.UNIMPLEMENTED, f"unknown method {name} for service {service[1:]}")
        raise RpcError(Code.UNIMPLEMENTED, f"unknown service {service[1:]}")

    def check(self, method: RpcMethod, call: RpcCall) -> None:
        """RpcError unless the call may begin."""
        context = self.context
        if method.changes and context.read_only:
            raise RpcError(Code.PERMISSION_DENIED, "this server refuses changes")
        requester = call.requester
        if context.views.limit(requester):
            allows_any = context.access.authorizer.allows_any
            for operation, kind in method.rights:
                if not allows_any(requester, operation, kind):
                    text = f"{call.principal} may not {operation.name} any {kind.name.lower()}"
                    raise RpcError(Code.PERMISSION_DENIED, text)
        if context.access.quotas.is_on and call.method not in ANSWERS:
            self._check_quotas(method, call)

    def _check_quotas(self, method: RpcMethod, call: RpcCall) -> None:
        quotas, user = self.context.access.quotas, call.requester.principal.name
        for right, key in ((PUBLISHES, QuotaKey.PRODUCE), (READS, QuotaKey.FETCH)):
            if right in method.rights:
                wait_ms = quotas.excess_ms(key, user, "")
                if wait_ms:
                    text = f"{call.principal} has used more than its quota: room in {wait_ms} ms"
                    raise RpcError(Code.RESOURCE_EXHAUSTED, text)

    def charge(self, method: RpcMethod, call: RpcCall, *, sent: int = 0, received: int = 0) -> int:
        """Count bytes of messages for the quotas of who calls. Returns the milliseconds to wait before
        more."""
        quotas = self.context.access.quotas
        if not quotas.is_on:
            return 0
        user = call.requester.principal.name
        if received and PUBLISHES in method.rights:
            return quotas.charge(QuotaKey.PRODUCE, user, "", received)
        if sent and READS in method.rights:
            return quotas.charge(QuotaKey.FETCH, user, "", sent)
        return 0

    def start_unary(
        self, method: RpcMethod, call: RpcCall, message: bytes
    ) -> bytes | Promise[bytes] | Awaitable[bytes]:
        """Check a call and run its function. Raises what `status_of` explains."""
        if method.unary is None:
            raise RpcError(Code.UNIMPLEMENTED, f"{call.method} is a stream")
        self.check(method, call)
        self.charge(method, call, received=len(message))
        return method.unary(call, message)

    async def call_unary(self, call: RpcCall, message: bytes) -> bytes:
        """The whole of a unary call, for REST. RpcError."""
        code = Code.CANCELLED
        try:
            method = self.find(call.method)
            result = self.start_unary(method, call, message)
            answer = result if isinstance(result, bytes) else await result
            self.charge(method, call, sent=len(answer))
            code = Code.OK
            return answer
        except Exception as error:
            status = self.status_of(call, error)
            code = status.code
            raise status from error
        finally:
            self.count(call.method, code)

    def status_of(self, call: RpcCall, error: BaseException) -> RpcError:
        """What a call ends with that failed with this error. A fault of the server is logged."""
        status = known_status(error)
        if status is None:
            log.error("%s failed: the client got INTERNAL", call.method, exc_info=error)
            status = RpcError(Code.INTERNAL, "the server's log has the details")
        return status

    def count(self, path: str, code: Code) -> None:
        """A call has ended."""
        self.counts[path if path in self.methods else "unknown", code] += 1

"""The ASGI application: calls the function of a request's route, and turns every outcome into a response.

Owns: routing by path and method, the check of the rights that a route declares, before its function is
called, and turning every error into a problem. Refuses: to show a traceback to a client. Knows only the
declarations of routes that it is given.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from mainstem import contract
from mainstem.doors.http import problem
from mainstem.doors.http.endpoint import Call, Endpoint, HttpContext
from mainstem.doors.http.path_names import MarkingRouter
from mainstem.doors.http.problem import Problem
from mainstem.doors.http.requesters import HttpCaller
from mainstem.doors.http.throttling import ThrottledClient, quotas_of

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

log = logging.getLogger("mainstem.http")


def _check_utf8(scope: Scope) -> None:
    """Raise a problem if the path or the query string is not UTF-8. Otherwise its bytes would be replaced,
    and the request would mean another topic, group or text than it names."""
    for kind, text in (("bad-path", scope["raw_path"]), ("invalid", scope["query_string"])):
        try:
            unquote_to_bytes(text).decode()
        except UnicodeDecodeError:
            what = "path" if kind == "bad-path" else "query string"
            raise Problem(kind, f"the percent-encoded bytes in the {what} are not UTF-8") from None


class PathRoute:
    """The ASGI application of one path: it calls the endpoint of the request's method."""

    def __init__(self, context: HttpContext, endpoints: Sequence[Endpoint]) -> None:
        self._context = context
        self._by_method = {endpoint.method: endpoint for endpoint in endpoints}
        assert len(self._by_method) == len(endpoints), "a method of a path is declared once"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response of the endpoint that serves the request's method on this path, or a problem."""
        request = Request(scope, receive)
        try:
            endpoint = self._endpoint_of(request)
            _check_utf8(scope)
            caller = await self._caller_of(scope, endpoint)
            client = self._throttled(endpoint, caller)
            if client is not None:
                client.check()
                request = Request(scope, client.received_from(receive))
                send = client.sent_to(send)
        except Problem as error:
            await error.response()(scope, receive, send)
            return
        end = self._context.running.begin(caller)
        try:
            if client is None:
                await self._serve(request, receive, send, endpoint, caller, None)
            else:
                await client.time.measured(self._serve(request, receive, send, endpoint, caller, client))
        except ConnectionError:
            log.debug("%s: the client closed the connection before the end of the response", scope["path"])
        finally:
            end()
            if client is not None:
                client.charge_time()

    async def _serve(
        self,
        request: Request,
        receive: Receive,
        send: Send,
        endpoint: Endpoint,
        caller: HttpCaller,
        client: ThrottledClient | None,
    ) -> None:
        response = await self._respond(request, endpoint, caller, client)
        if client is not None and isinstance(response, StreamingResponse):
            response.body_iterator = client.time.measured_parts(response.body_iterator)
        await response(request.scope, receive, send)

    def _endpoint_of(self, request: Request) -> Endpoint:
        """The endpoint that serves the request's method. Raises Problem if there is none."""
        # A HEAD is handled like a GET; the server omits the body.
        method = "GET" if request.method == "HEAD" else request.method
        match = next((endpoint for endpoint in self._by_method.values() if endpoint.method == method), None)
        if match is None:
            allowed = ", ".join(sorted(self._by_method))
            detail = f"this path does not accept {request.method}; use {allowed}"
            raise Problem("method", detail, headers={"allow": allowed})
        return match

    async def _caller_of(self, scope: Scope, endpoint: Endpoint) -> HttpCaller:
        """Who sends the request. Raises Problem if the endpoint needs a login and there is none."""
        authentication, rights = self._context.authentication, endpoint.rights
        if rights.login and not rights.is_open(self._context.open_metrics):
            return await authentication.known_caller_of(scope)
        return await authentication.caller_of(scope)

    def _throttled(self, endpoint: Endpoint, caller: HttpCaller) -> ThrottledClient | None:
        """The client, if what it does counts for a quota."""
        context = self._context
        keys = quotas_of(endpoint.rights) if context.quotas.is_on else ()
        if not keys:
            return None
        return ThrottledClient(context.quotas, keys, caller.requester, context.clock, context.pause)

    async def _respond(
        self, request: Request, endpoint: Endpoint, caller: HttpCaller, client: ThrottledClient | None
    ) -> Response:
        call = None
        try:
            call = Call(self._context, endpoint, request, caller, None if client is None else client.time)
            if call.is_limited:
                endpoint.rights.check(call.rights, request)
            return await endpoint.handle(call)
        except Problem as error:
            return error.response()
        except contract.StreamError as error:
            return problem.from_error(error).response()
        except Exception as error:
            return problem.from_failure(error, request.scope).response()
        finally:
            if call is not None:
                call.body_memory.close()


class _EveryMethodRoute(Route):
    """A route whose application itself refuses the methods that it does not have. Starlette still needs the
    list of methods: if another path also matches and has the method, that path is used (a group may have the
    name `a/reset`)."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


async def _not_found(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        refusal = Problem("not-found", f"there is nothing at {scope['path'][:200]}")
        await refusal.response()(scope, receive, send)


def build(context: HttpContext, endpoints: Sequence[Endpoint], extra: Sequence[BaseRoute] = ()) -> ASGIApp:
    """The application with these routes; the `extra` ones, which serve files, are tried last."""
    by_path: dict[str, list[Endpoint]] = {}
    for endpoint in endpoints:
        by_path.setdefault(endpoint.path, []).append(endpoint)
    routes: list[BaseRoute] = [
        _EveryMethodRoute(
            path, PathRoute(context, same_path), methods=[endpoint.method for endpoint in same_path]
        )
        for path, same_path in by_path.items()
    ]
    return MarkingRouter([*routes, *extra], redirect_slashes=False, default=_not_found)

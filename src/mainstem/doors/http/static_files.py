"""The console's files: index.html at /, all others below /static/.

Owns: which files are served (those of the package `mainstem.console`, none outside it and no hidden ones),
their content types, and caching: a browser revalidates a file each time and gets a 304 if it has not changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from importlib import resources
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from mainstem.doors.http.problem import Problem

MEDIA_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
}


@cache
def _folder() -> Path:
    return Path(str(resources.files("mainstem.console")))


def static_routes(on_open: Callable[[], None]) -> list[BaseRoute]:
    """The routes of the console's files. `on_open` is called whenever a browser opens the console."""

    async def index(request: Request) -> Response:
        on_open()
        return _file(request, _folder() / "index.html")

    return [
        Route("/", index, methods=["GET"]),
        Route("/static/{path:path}", _static, methods=["GET"]),
    ]


async def _static(request: Request) -> Response:
    parts = request.path_params["path"].split("/")
    if any(not part or part.startswith(".") or "\\" in part or "\0" in part for part in parts):
        return _not_found(request)
    return _file(request, _folder().joinpath("static", *parts))


def _file(request: Request, path: Path) -> Response:
    media = MEDIA_TYPES.get(path.suffix)
    if media is None or not path.is_file():
        return _not_found(request)
    content = path.read_bytes()
    tag = f'"{hashlib.blake2s(content, digest_size=12).hexdigest()}"'
    headers = {"etag": tag, "cache-control": "no-cache"}
    if tag in request.headers.get("if-none-match", ""):
        return Response(None, 304, headers)
    return Response(content, 200, headers, media)


def _not_found(request: Request) -> Response:
    return Problem("not-found", f"there is no file at {request.url.path[:200]}").response()

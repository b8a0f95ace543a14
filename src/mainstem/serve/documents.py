"""Reads the documents of identity providers: their keys, descriptions and tokens.

Owns: how they are read: with a deadline, up to a size, without redirections, for their addresses are set and
not learned. Refuses: the event loop: it blocks, and is for worker threads.
"""

from __future__ import annotations

from mainstem.authentication.jwks import DOCUMENT_MAX_BYTES

FETCH_SECONDS = 10.0


def read_document(url: str, form: bytes | None = None, authorization: str = "") -> bytes:
    """The document at a file:, https: or http: address, or the answer to a POST of `form`. Blocks up to 10 s.
    OSError if it cannot be read, is longer than a key set can be, or is a redirection."""
    from urllib.error import HTTPError
    from urllib.request import HTTPRedirectHandler, Request, build_opener

    class NoRedirection(HTTPRedirectHandler):
        def redirect_request(self, *arguments: object, **options: object) -> Request | None:
            return None

    headers = {"accept": "application/json"} | ({"authorization": authorization} if authorization else {})
    request = Request(url, form, headers)
    try:
        with build_opener(NoRedirection).open(request, timeout=FETCH_SECONDS) as response:
            document: bytes = response.read(DOCUMENT_MAX_BYTES + 1)
    except HTTPError as error:
        error.close()
        raise OSError(f"{url} answers with status {error.code}") from None
    if len(document) > DOCUMENT_MAX_BYTES:
        raise OSError(f"the document is longer than {DOCUMENT_MAX_BYTES} bytes")
    return document

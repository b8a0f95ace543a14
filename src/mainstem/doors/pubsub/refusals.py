"""The errors that calls end with, in Google's words where clients and their tests look at them.

Owns: these texts. Refuses: which call deserves which.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mainstem.doors.pubsub.calls import Code, RpcError


def invalid_argument(text: str) -> RpcError:
    """INVALID_ARGUMENT."""
    return RpcError(Code.INVALID_ARGUMENT, text)


def not_found(name: object) -> RpcError:
    """The error for a resource that does not exist. `name`: the full name; its last part is shown."""
    return RpcError(Code.NOT_FOUND, f"Resource not found (resource={_id(name)}).")


def already_exists(name: object) -> RpcError:
    """The error for creating a resource whose name is taken."""
    return RpcError(Code.ALREADY_EXISTS, f"Resource already exists in the project (resource={_id(name)}).")


def failed_precondition(text: str) -> RpcError:
    """FAILED_PRECONDITION."""
    return RpcError(Code.FAILED_PRECONDITION, text)


@contextmanager
def arguments() -> Iterator[None]:
    """A ValueError inside is INVALID_ARGUMENT with its text."""
    try:
        yield
    except ValueError as error:
        raise invalid_argument(str(error)) from None


def _id(name: object) -> str:
    return str(name).rpartition("/")[2]

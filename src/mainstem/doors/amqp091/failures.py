"""What a client learns of an error of the engine that no rule of AMQP foresees.

Owns: this choice of a code. Refuses: errors of clients, which are raised where they are noticed.
"""

from __future__ import annotations

from mainstem.amqp.errors import AmqpError, amqp_error
from mainstem.contract import NotAuthorized, StreamError


def as_amqp_error(error: AmqpError | StreamError) -> AmqpError:
    """403 for what the user may not do, 541 for the rest."""
    if isinstance(error, AmqpError):
        return error
    return amqp_error(403 if isinstance(error, NotAuthorized) else 541, str(error))

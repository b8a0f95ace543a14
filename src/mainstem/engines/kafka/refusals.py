"""Finds out why a cluster and a client do not accept each other: TLS, a certificate, or a missing login.

Owns: the texts of these errors, which name the options of a command. librdkafka reports most of them like a
server that is silent, and goes on trying. Blocking: for a thread. Refuses: to send a password or a token to
find that out, but for the login that the client has to make anyway.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Sequence

from mainstem.client_security import ClientSecurity
from mainstem.kafka_protocol.message import ProtocolError
from mainstem.search.cluster import client_protocol as wire
from mainstem.search.cluster.broker_client import BrokerConnection, LoginRefused

PROBE_TIMEOUT_S = 2.0
UNSUPPORTED_MECHANISM = 33
"""Kafka's error code of a SaslHandshake with a mechanism that is not enabled."""
NO_MECHANISM = "NONE"
"""The name of no mechanism: the reply lists those that there are."""


def refusal_of(addresses: Sequence[tuple[str, int]], security: ClientSecurity) -> str | None:
    """Why the cluster and this client do not accept each other; None if that is not known to be so. Without
    this question librdkafka would go on trying, and be locked out for it."""
    for host, port in addresses:
        try:
            connection = BrokerConnection(host, port, PROBE_TIMEOUT_S, security)
        except LoginRefused as error:
            return str(error)
        except ssl.SSLCertVerificationError as error:
            return f"its certificate is not trusted: {error.verify_message}; --ca FILE names its authority"
        except ssl.SSLError as error:
            return _tls_failed(error)
        except TimeoutError:
            continue
        except (OSError, ProtocolError):
            if not security.has_tls and _speaks_tls(host, port):
                return "it expects TLS: --ca FILE names its authority, or write --at SSL:// or SASL_SSL://"
            continue
        with contextlib.closing(connection):
            if security.has_login or _answers(connection):
                return None
        return _missing_login(host, port, security)
    return None


def _tls_failed(error: ssl.SSLError) -> str:
    reason = (error.reason or str(error)).lower().replace("_", " ")
    hint = "; --cert FILE and --cert-key FILE name one" if "certificate required" in reason else ""
    return f"TLS failed: {reason}{hint}"


def _speaks_tls(host: str, port: int) -> bool:
    """Whether the server speaks TLS, whatever its certificate is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # nothing is sent to it
    try:
        with (
            socket.create_connection((host, port), PROBE_TIMEOUT_S) as connection,
            context.wrap_socket(connection, server_hostname=host),
        ):
            return True
    except ssl.SSLError as error:
        return "ALERT" in (error.reason or "")
    except OSError:
        return False


def _answers(connection: BrokerConnection) -> bool:
    """Whether the broker answers a client that has not logged in; True if it is only slow."""
    try:
        connection.call(wire.metadata_request([], ids=wire.has_topic_ids(connection.versions)))
    except TimeoutError:
        return True
    except (OSError, ProtocolError):
        return False
    return True


def _missing_login(host: str, port: int, security: ClientSecurity) -> str | None:
    """What is missing if the broker asks for a login; None if it does not."""
    try:
        with contextlib.closing(BrokerConnection(host, port, PROBE_TIMEOUT_S, security)) as connection:
            reply = connection.call(wire.sasl_handshake_request(NO_MECHANISM))
    except ssl.SSLError as error:
        return _tls_failed(error)
    except (OSError, ProtocolError):
        return None
    if reply.error_code != UNSUPPORTED_MECHANISM:
        return None
    return f"it expects a login, by {' or '.join(reply.mechanisms)}: add --user NAME and --password-file FILE"

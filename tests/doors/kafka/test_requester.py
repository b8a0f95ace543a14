"""Who asks, in the requests of a connection: its principal, its address, and the client id of the request."""

from mainstem.access_contract import ANONYMOUS, ROLE, USER, Principal, Requester
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.doors.kafka.handlers import discover
from mainstem.doors.kafka.rights import NoRights
from mainstem.kafka_protocol.message import Message
from tests.doors.kafka.kit import DoorClient

HEARTBEAT = Message(group_id="g", generation_id=1, member_id="m")


def recording() -> tuple[DoorClient, list[Requester]]:
    """A client whose heartbeats record who asks."""
    requesters: list[Requester] = []

    def handle(context: HandlerContext, request: Request) -> HandlerResult:
        requesters.append(request.requester)
        return Message(error_code=0)

    handler = Handler(key=12, versions=(0, 4), handle=handle, rights=NoRights("a test"))
    return DoorClient(handlers={**discover(), 12: handler}), requesters


def test_a_client_that_did_not_authenticate_itself_is_anonymous_with_its_address_and_client_id() -> None:
    client, requesters = recording()
    client.send(12, 0, HEARTBEAT, client_id="app")
    assert requesters == [Requester(principal=ANONYMOUS, host="198.51.100.1", client_id="app")]


def test_a_requester_is_made_once_for_a_client_id() -> None:
    client, requesters = recording()
    for client_id in ("app", "app", None, "app"):
        client.send(12, 0, HEARTBEAT, client_id=client_id)
    assert requesters[0] is requesters[1]
    assert [requester.client_id for requester in requesters] == ["app", "app", "", "app"]


def test_an_authenticated_client_asks_as_its_principal_from_then_on() -> None:
    client, requesters = recording()
    alice, ops = Principal(USER, "alice"), Principal(ROLE, "ops")
    client.send(12, 0, HEARTBEAT)
    client.connection.identify(alice, frozenset({ops}))
    client.send(12, 0, HEARTBEAT)
    assert [requester.principal for requester in requesters] == [ANONYMOUS, alice]
    assert requesters[1].roles == {ops}

"""What clients answer about messages: Acknowledge and ModifyAckDeadline, by calls and on streams.

With exactly-once delivery, an answer that comes too late is an error, which names each ack id with its
outcome: `PERMANENT_FAILURE_INVALID_ACK_ID`, or `TRANSIENT_FAILURE_...` for those that were taken, for clients
disagree about what an id means that the error does not name. They send these again, alone, and an
acknowledgement that was taken succeeds again.

Owns: from ack ids to answers of the engine, and these errors. Refuses: leases and deadlines. Source: the
clients' code, and https://cloud.google.com/pubsub/docs/exactly-once-delivery.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from mainstem.attach_contract import AttachesConsumers
from mainstem.contract import Engine
from mainstem.doors.pubsub.calls import Code, RpcError
from mainstem.doors.pubsub.outstanding import OutstandingMessages
from mainstem.doors.pubsub.subscription_catalog import PubsubSubscription, queues_of
from mainstem.pubsub.ack_ids import ACK_ID_CHARS, token_of
from mainstem.pubsub.messages import message
from mainstem.queue_contract import Ack, Extend, Nack, Outcome, Verdict

DEADLINE_S_MAX = 600
ACK_ID_BYTES_MAX = 512 << 10
"""Bytes of the ack ids of a request."""
NAMED_MAX = 80
"""Ack ids that an error names: gRPC's clients take 8 KiB of trailers."""
ANSWERS_KNOWN_MAX = 100_000
"""Of each kind."""
PERMANENT = "PERMANENT_FAILURE_INVALID_ACK_ID"
TRANSIENT = "TRANSIENT_FAILURE_RETRY"
REASON = "EXACTLY_ONCE_ACKID_FAILURE"
DOMAIN = "pubsub.googleapis.com"
SOME_INVALID = (
    "Some acknowledgement ids in the request were invalid. This could be because the acknowledgement ids have"
    " expired or the acknowledgement ids were malformed."
)


@dataclass(slots=True)
class AckOutcome:
    """What became of the answers of a request."""

    taken: list[str] = field(default_factory=list)
    """Ack ids."""
    failed: list[str] = field(default_factory=list)
    """Of exactly-once delivery: what is over."""
    invalid: list[str] = field(default_factory=list)
    """Those that are of no delivery of the subscription."""

    def add(self, other: AckOutcome) -> None:
        """Both together."""
        self.taken += other.taken
        self.failed += other.failed
        self.invalid += other.invalid


class Acknowledging:
    """Takes the answers for all subscriptions of a door."""

    def __init__(self, outstanding: OutstandingMessages) -> None:
        self._outstanding = outstanding
        self._acked: OrderedDict[str, None] = OrderedDict()
        """The tokens of exactly-once deliveries that were acknowledged last: clients that get no reply
        acknowledge them again. An earlier delivery of the same event has failed, though the event is done."""
        self._nacked: OrderedDict[str, None] = OrderedDict()
        """Those that were given back last."""

    async def acknowledge(
        self, engine: Engine, subscription: PubsubSubscription, ack_ids: Sequence[str]
    ) -> AckOutcome:
        """Acknowledge messages. RpcError: there are too many."""
        return await self._settle(engine, subscription, ack_ids, [Ack] * len(ack_ids))

    async def modify(
        self, engine: Engine, subscription: PubsubSubscription, ack_ids: Sequence[str], seconds: Sequence[int]
    ) -> AckOutcome:
        """Let the deadline of messages be in as many seconds from now, one number each; 0: give them back.
        RpcError: a number is out of range, or there are too many."""
        for number in seconds:
            if not 0 <= number <= DEADLINE_S_MAX:
                raise RpcError(
                    Code.INVALID_ARGUMENT,
                    f"Invalid ack deadline given (seconds={number}): it must be from 0 to {DEADLINE_S_MAX}.",
                )
        return await self._settle(engine, subscription, ack_ids, list(seconds))

    async def _settle(
        self,
        engine: Engine,
        subscription: PubsubSubscription,
        ack_ids: Sequence[str],
        asked: Sequence[int | type[Ack]],
    ) -> AckOutcome:
        if max(len(ack_ids) * ACK_ID_CHARS, sum(map(len, ack_ids))) > ACK_ID_BYTES_MAX:  # some may be empty
            raise RpcError(
                Code.INVALID_ARGUMENT, f"Request payload size exceeds the limit: {ACK_ID_BYTES_MAX} bytes."
            )
        outcome = AckOutcome()
        answers: list[Outcome] = []
        ids: list[str] = []
        for ack_id, answer in zip(ack_ids, asked, strict=True):
            token = token_of(ack_id)
            if token is None:
                outcome.invalid.append(ack_id)
                continue
            ids.append(ack_id)
            if isinstance(answer, type):
                answers.append(Ack(token))
            else:
                answers.append(Extend(token, answer * 1000, alone=True) if answer else Nack(token))
        if answers:
            verdicts = await queues_of(engine).settle(subscription.queue, answers)
            self._outstanding.answered(answer.token for answer in answers if not isinstance(answer, Extend))
            self._sort(engine, subscription, list(zip(ids, answers, verdicts, strict=True)), outcome)
        return outcome

    def _sort(
        self,
        engine: Engine,
        subscription: PubsubSubscription,
        answered: Sequence[tuple[str, Outcome, Verdict]],
        outcome: AckOutcome,
    ) -> None:
        """What the verdicts mean for a client."""
        is_exact, over = subscription.stored.is_exactly_once, list[tuple[str, Outcome]]()
        for ack_id, answer, verdict in answered:
            if verdict in ("done", "late"):
                outcome.taken.append(ack_id)
                if is_exact and not isinstance(answer, Extend):
                    self._note(answer)
            elif verdict == "invalid" and not subscription.stored.is_topic_deleted:
                outcome.invalid.append(ack_id)
            elif is_exact:
                over.append((ack_id, answer))
            else:
                outcome.taken.append(ack_id)
        if not over:
            return
        assert isinstance(engine, AttachesConsumers)
        states = engine.attached.delivery_states(subscription.queue, [answer.token for _, answer in over])
        for (ack_id, answer), state in zip(over, states, strict=True):
            if isinstance(answer, Ack):
                is_repeated = state == "done_earlier" or answer.token in self._acked
            else:
                is_repeated = isinstance(answer, Nack) and answer.token in self._nacked
            (outcome.taken if is_repeated else outcome.failed).append(ack_id)

    def _note(self, answer: Outcome) -> None:
        known = self._acked if isinstance(answer, Ack) else self._nacked
        known[answer.token] = None
        if len(known) > ANSWERS_KNOWN_MAX:
            known.popitem(last=False)


def check(subscription: PubsubSubscription, outcome: AckOutcome) -> None:
    """RpcError if a client is to know that some of its answers were not taken."""
    if not subscription.stored.is_exactly_once:
        if outcome.invalid:
            raise RpcError(
                Code.INVALID_ARGUMENT,
                f"You have passed an invalid ack ID to the service (ack_id={outcome.invalid[0][:100]}).",
            )
        return
    failed = outcome.invalid + outcome.failed
    if failed:
        raise RpcError(Code.INVALID_ARGUMENT, SOME_INVALID, failure_details(failed, outcome.taken))


def failure_details(failed: Sequence[str], taken: Sequence[str]) -> bytes:
    """The google.rpc.Status that says which ack ids have failed, at most NAMED_MAX of all."""
    info = message("google.rpc.ErrorInfo")(reason=REASON, domain=DOMAIN)
    named = [(ack_id, PERMANENT) for ack_id in failed] + [(ack_id, TRANSIENT) for ack_id in taken]
    for ack_id, what in named[:NAMED_MAX]:
        info.metadata[ack_id[:100]] = what
    status = message("google.rpc.Status")(code=Code.INVALID_ARGUMENT, message=SOME_INVALID)
    status.details.add(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=info.SerializeToString())
    encoded: bytes = status.SerializeToString()
    return encoded

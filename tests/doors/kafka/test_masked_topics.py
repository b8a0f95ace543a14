"""A client for whom fields of a topic are masked gets none of its batches, which cannot be masked."""

from __future__ import annotations

from mainstem.access_contract import ANONYMOUS
from mainstem.masking.rules import MaskKind
from tests.doors.kafka import access_kit as kit
from tests.doors.kafka.share_kit import ShareRig
from tests.doors.kafka.test_rights import HANDLERS, topic_id
from tests.support.memory_masks import mask_rule

FETCH, SHARE_FETCH = 1, 78


def codes(rig: ShareRig, key: int) -> set[int]:
    reply = rig.call(key, HANDLERS[key].versions[1], kit.requests(topic_id(rig))[key])
    return {code for _, code in kit.error_codes(reply) if code}


def test_fetch_and_share_fetch_refuse_a_topic_with_masked_fields() -> None:
    rig = ShareRig()
    before = {key: codes(rig, key) for key in HANDLERS if key in (FETCH, SHARE_FETCH)}
    assert kit.TOPIC_DENIED not in before[FETCH] | before[SHARE_FETCH]
    rig.masks.put_rule(mask_rule(kit.TOPIC, "card", name="cards"))
    assert codes(rig, FETCH) == {kit.TOPIC_DENIED}
    rig.masks.put_rule(mask_rule(kit.TOPIC, "card", MaskKind.HIDDEN, ANONYMOUS, name="cards"))
    assert codes(rig, FETCH) == before[FETCH]

"""The JSON of masking rules, and its translation to rules.

Owns: the fields of these requests and replies, with their limits and descriptions. Refuses: paths and names
of users and roles that cannot be read.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from mainstem.access_contract import PatternType, Principal
from mainstem.http_api.events import EventJson
from mainstem.masking.rules import MaskKind, MaskPath, MaskRule

KindWord = Literal["hidden", "hashed", "last4"]
KINDS: dict[MaskKind, KindWord] = {
    MaskKind.HIDDEN: "hidden",
    MaskKind.HASHED: "hashed",
    MaskKind.LAST4: "last4",
}
PreviewCount = Annotated[int, Meta(ge=1, le=20)]
RuleName = Annotated[str, Meta(min_length=1, max_length=255, pattern=r"^[^/:]+$")]
PrincipalName = Annotated[
    str, Meta(pattern=r"^[^:]+:(?s:.+)$", max_length=500, description="User:NAME or Role:NAME.")
]
Principals = Annotated[list[PrincipalName], Meta(max_length=100)]


class MaskRuleJson(msgspec.Struct, forbid_unknown_fields=True):
    """A masking rule: what is shown in the place of a field, and to whom."""

    rule: RuleName
    topic: Annotated[
        str,
        Meta(min_length=1, max_length=255, description="A topic, how topics begin, or * for every topic."),
    ]
    path: Annotated[
        str,
        Meta(
            max_length=4_096,
            description="customer.card, *.pin, header.authorization, key; $ for the whole payload.",
        ),
    ]
    kind: KindWord
    prefixed: Annotated[bool, Meta(description="Whether `topic` is how names of topics begin.")] = False
    principals: Annotated[
        Principals, Meta(min_length=1, description="For whom it is masked; User:* is everybody.")
    ] = msgspec.field(default_factory=lambda: ["User:*"])
    exempt: Annotated[Principals, Meta(description="Who of these sees the value all the same.")] = (
        msgspec.field(default_factory=list)
    )

    def parsed(self) -> MaskRule:
        """The rule. ValueError says what cannot be read."""
        kind = next(kind for kind, word in KINDS.items() if word == self.kind)
        return MaskRule(
            self.rule,
            self.topic,
            PatternType.PREFIXED if self.prefixed else PatternType.LITERAL,
            MaskPath.parse(self.path),
            kind,
            tuple(map(Principal.parse, self.principals)),
            tuple(map(Principal.parse, self.exempt)),
        )


def rule_json(rule: MaskRule) -> MaskRuleJson:
    """The JSON of a rule."""
    return MaskRuleJson(
        rule=rule.name,
        topic=rule.topic,
        path=rule.path.text,
        kind=KINDS[rule.kind],
        prefixed=rule.pattern is PatternType.PREFIXED,
        principals=[principal.text for principal in rule.principals],
        exempt=[principal.text for principal in rule.exempt],
    )


class MaskRulesJson(msgspec.Struct):
    """All masking rules, by name."""

    rules: list[MaskRuleJson]


class DeletedMaskRuleJson(msgspec.Struct):
    """The reply to a deletion."""

    rule: str
    dry_run: bool


class MaskPreviewRequestJson(msgspec.Struct, forbid_unknown_fields=True):
    """The request to see what a rule would mask."""

    rule: MaskRuleJson
    topic: Annotated[str, Meta(min_length=1, max_length=255, description="The topic whose events are shown.")]
    events: Annotated[PreviewCount, Meta(description="How many of its newest events.")] = 5


class MaskedEventJson(msgspec.Struct):
    """An event as you see it now, and as those see it whom the rule is for."""

    plain: EventJson
    masked: EventJson
    is_masked: Annotated[bool, Meta(description="Whether the rule changes what is shown of it.")]


class MaskPreviewJson(msgspec.Struct):
    """What a rule would mask among the newest events of a topic."""

    events: list[MaskedEventJson]

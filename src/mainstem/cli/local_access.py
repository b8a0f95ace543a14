"""Users, entries, masking rules, quotas and API tokens of a data folder that no server uses.

Owns: the same answers and refusals as those of a server's HTTP door. Refuses: to open the folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec import UNSET

from mainstem.access_contract import (
    AclFilter,
    Operation,
    Principal,
    Requester,
    Resource,
    ResourceType,
    ScramMechanism,
)
from mainstem.http_api.access import (
    AccessAnswerJson,
    AccessQuestionJson,
    AclJson,
    AclsQuery,
    UserJson,
    VerifierJson,
    acl_json,
    acl_of,
    answer_json,
    filter_of,
    user_json,
    verifier_of,
)
from mainstem.http_api.masking import MaskRuleJson, rule_json
from mainstem.http_api.quotas import (
    ChangedQuotaJson,
    DeleteQuotaJson,
    QuotaJson,
    QuotasQuery,
    SetQuotaJson,
    change_quotas,
    matching,
    quota_json,
)
from mainstem.http_api.tokens import (
    ApiTokenJson,
    MadeApiTokenJson,
    NewApiTokenJson,
    new_token,
    token_json,
)
from mainstem.stream_errors import InvalidArgument, NoSuchUser

if TYPE_CHECKING:
    from mainstem.serve.offline_access import OfflineAccess


class LocalAccess:
    """See `AccessClient`."""

    def __init__(self, access: OfflineAccess) -> None:
        self._admin = access.admin
        self._authorizer = access.authorizer
        self._masks = access.masks
        self._quotas = access.quotas
        self._tokens = access.tokens

    async def users(self) -> Sequence[UserJson]:
        """See `AccessClient`."""
        return [user_json(info) for info in self._admin.users()]

    async def add_user(self, user: str, verifiers: Sequence[VerifierJson]) -> None:
        """See `AccessClient`."""
        if self._admin.user(user) is not None:
            raise InvalidArgument(f"there is a user {user!r} already")
        await self._admin.put_verifiers(user, [verifier_of(verifier) for verifier in verifiers])

    async def change_user(self, user: str, verifiers: Sequence[VerifierJson]) -> None:
        """See `AccessClient`."""
        self._require(user)
        new = [verifier_of(verifier) for verifier in verifiers]
        await self._admin.put_verifiers(user, new)
        others = set(ScramMechanism) - {verifier.mechanism for verifier in new}
        left = [mechanism for mechanism in sorted(others) if self._admin.verifier(user, mechanism)]
        if left:
            await self._admin.delete_verifiers(user, left)

    async def delete_user(self, user: str, *, dry_run: bool) -> None:
        """See `AccessClient`."""
        self._require(user)
        if not dry_run:
            await self._admin.delete_verifiers(user, tuple(ScramMechanism))

    async def acls(self, query: AclsQuery) -> Sequence[AclJson]:
        """See `AccessClient`."""
        return [acl_json(acl) for acl in self._admin.acls(filter_of(query))]

    async def add_acls(self, acls: Sequence[AclJson], *, dry_run: bool) -> Sequence[AclJson]:
        """See `AccessClient`."""
        existing = set(self._admin.acls(AclFilter()))
        new = [acl for acl in dict.fromkeys(map(acl_of, acls)) if acl not in existing]
        if not dry_run:
            await self._admin.create_acls(new)
        return [acl_json(acl) for acl in new]

    async def delete_acls(self, acls: Sequence[AclJson], *, dry_run: bool) -> Sequence[AclJson]:
        """See `AccessClient`."""
        existing = sorted(set(map(acl_of, acls)).intersection(self._admin.acls(AclFilter())))
        if not dry_run:
            await self._admin.delete_acls(existing)
        return [acl_json(acl) for acl in existing]

    async def test(self, question: AccessQuestionJson) -> AccessAnswerJson:
        """See `AccessClient`."""
        requester = Requester(
            principal=Principal.parse(question.principal),
            roles=frozenset(map(Principal.parse, question.roles)),
            host=question.host,
        )
        resource = Resource(ResourceType[question.resource_type], question.name)
        return answer_json(self._authorizer.decide(requester, Operation[question.operation], resource))

    async def masking_rules(self) -> Sequence[MaskRuleJson]:
        """See `AccessClient`."""
        return [rule_json(rule) for rule in self._masks.rules()]

    async def put_masking_rule(self, rule: MaskRuleJson, *, dry_run: bool) -> MaskRuleJson:
        """See `AccessClient`."""
        try:
            parsed = rule.parsed()
        except ValueError as error:
            raise InvalidArgument(f"masking rule {rule.rule}: {error}") from None
        await self._masks.put_rule(parsed, validate_only=dry_run)
        return rule_json(parsed)

    async def delete_masking_rule(self, rule: str, *, dry_run: bool) -> None:
        """See `AccessClient`."""
        is_present = any(known.name == rule for known in self._masks.rules())
        if not (is_present if dry_run else await self._masks.delete_rule(rule)):
            raise InvalidArgument(f"there is no masking rule {rule}")

    async def quotas(self, query: QuotasQuery) -> Sequence[QuotaJson]:
        """See `AccessClient`."""
        try:
            rows = [quota_json(entity, values) for entity, values in matching(self._quotas.quotas(), query)]
        except ValueError as error:
            raise InvalidArgument(str(error)) from None
        return [row for row in rows if row is not None]

    async def change_quotas(self, body: SetQuotaJson | DeleteQuotaJson) -> ChangedQuotaJson:
        """See `AccessClient`."""
        try:
            return await change_quotas(self._quotas, body)
        except ValueError as error:
            raise InvalidArgument(str(error)) from None

    async def tokens(self) -> Sequence[ApiTokenJson]:
        """See `AccessClient`."""
        now_ms = self._tokens.clock.wall_ms()
        return [token_json(token, now_ms) for token in self._tokens.store.tokens()]

    async def make_token(self, token: NewApiTokenJson) -> MadeApiTokenJson:
        """See `AccessClient`. InvalidArgument: it names no user."""
        if token.user is UNSET:
            raise InvalidArgument("a token needs a user")
        now_ms = self._tokens.clock.wall_ms()
        secret, made, digest = new_token(token, token.user, now_ms, self._tokens.random_bytes)
        await self._tokens.store.add(made, digest)
        return MadeApiTokenJson(secret, token_json(made, now_ms))

    async def delete_token(self, id_: str) -> None:
        """See `AccessClient`."""
        await self._tokens.store.delete(id_)

    def _require(self, user: str) -> None:
        if self._admin.user(user) is None:
            raise NoSuchUser(f"there is no user {user!r}")

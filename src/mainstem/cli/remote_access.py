"""Users, entries, masking rules, quotas and API tokens of a mainstem server, by its HTTP door.

Owns: the requests, and decoding their replies, whose types are those of `mainstem.http_api`. Refuses: replies
that are not those of a mainstem server, with NotReachable.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TypeVar
from urllib.parse import quote, urlencode

import msgspec

from mainstem.cli.http_client import request_json
from mainstem.http_api.access import (
    ACLS_OF_REQUEST_MAX,
    AccessAnswerJson,
    AccessQuestionJson,
    AclJson,
    AclsJson,
    AclsQuery,
    ChangeAclsJson,
    ChangedAclsJson,
    DeletedUserJson,
    NewUserJson,
    UserJson,
    UsersJson,
    VerifierJson,
    VerifiersJson,
)
from mainstem.http_api.masking import DeletedMaskRuleJson, MaskRuleJson, MaskRulesJson
from mainstem.http_api.quotas import (
    ChangedQuotaJson,
    DeleteQuotaJson,
    QuotaJson,
    QuotasJson,
    QuotasQuery,
    SetQuotaJson,
)
from mainstem.http_api.tokens import (
    ApiTokenJson,
    ApiTokensJson,
    DeletedApiTokenJson,
    MadeApiTokenJson,
    NewApiTokenJson,
)

T = TypeVar("T")
P = TypeVar("P", UsersJson, AclsJson, QuotasJson)
USERS, ACLS = "/api/v1/users", "/api/v1/acls"
RULES, QUOTAS = "/api/v1/masking-rules", "/api/v1/quotas"
TOKENS = "/api/v1/tokens"
DRY_RUN = "?dry_run=true"
PAGE_ROWS = 1_000


class RemoteAccess:
    """See `AccessClient`; behind the HTTP door at HOST:PORT."""

    def __init__(self, address: str) -> None:
        self._address = address

    async def users(self) -> Sequence[UserJson]:
        """See `AccessClient`."""
        return [user async for page in self._pages(USERS, UsersJson, "after") for user in page.users]

    async def add_user(self, user: str, verifiers: Sequence[VerifierJson]) -> None:
        """See `AccessClient`."""
        await self._request("POST", USERS, NewUserJson(user, list(verifiers)), UserJson)

    async def change_user(self, user: str, verifiers: Sequence[VerifierJson]) -> None:
        """See `AccessClient`."""
        await self._request("PATCH", _path(user), VerifiersJson(list(verifiers)), UserJson)

    async def delete_user(self, user: str, *, dry_run: bool) -> None:
        """See `AccessClient`."""
        await self._request("DELETE", _path(user) + DRY_RUN * dry_run, None, DeletedUserJson)

    async def acls(self, query: AclsQuery) -> Sequence[AclJson]:
        """See `AccessClient`."""
        return [acl async for page in self._pages(ACLS, AclsJson, "skip", query) for acl in page.acls]

    async def add_acls(self, acls: Sequence[AclJson], *, dry_run: bool) -> Sequence[AclJson]:
        """See `AccessClient`. Many entries are several requests."""
        return await self._change(ACLS, acls, dry_run)

    async def delete_acls(self, acls: Sequence[AclJson], *, dry_run: bool) -> Sequence[AclJson]:
        """See `AccessClient`. Many entries are several requests."""
        return await self._change(ACLS + ":delete", acls, dry_run)

    async def test(self, question: AccessQuestionJson) -> AccessAnswerJson:
        """See `AccessClient`."""
        return await self._request("POST", ACLS + ":test", question, AccessAnswerJson)

    async def masking_rules(self) -> Sequence[MaskRuleJson]:
        """See `AccessClient`."""
        return (await self._request("GET", RULES, None, MaskRulesJson)).rules

    async def put_masking_rule(self, rule: MaskRuleJson, *, dry_run: bool) -> MaskRuleJson:
        """See `AccessClient`."""
        return await self._request("POST", RULES + DRY_RUN * dry_run, rule, MaskRuleJson)

    async def delete_masking_rule(self, rule: str, *, dry_run: bool) -> None:
        """See `AccessClient`."""
        path = f"{RULES}/{quote(rule, safe='')}{DRY_RUN * dry_run}"
        await self._request("DELETE", path, None, DeletedMaskRuleJson)

    async def quotas(self, query: QuotasQuery) -> Sequence[QuotaJson]:
        """See `AccessClient`."""
        pages = self._pages(QUOTAS, QuotasJson, "skip", query)
        return [quota async for page in pages for quota in page.quotas]

    async def change_quotas(self, body: SetQuotaJson | DeleteQuotaJson) -> ChangedQuotaJson:
        """See `AccessClient`."""
        path = QUOTAS if isinstance(body, SetQuotaJson) else QUOTAS + ":delete"
        return await self._request("POST", path, body, ChangedQuotaJson)

    async def tokens(self) -> Sequence[ApiTokenJson]:
        """See `AccessClient`."""
        return (await self._request("GET", TOKENS, None, ApiTokensJson)).tokens

    async def make_token(self, token: NewApiTokenJson) -> MadeApiTokenJson:
        """See `AccessClient`."""
        return await self._request("POST", TOKENS, token, MadeApiTokenJson)

    async def delete_token(self, id_: str) -> None:
        """See `AccessClient`."""
        await self._request("DELETE", f"{TOKENS}/{quote(id_, safe='')}", None, DeletedApiTokenJson)

    async def _change(self, path: str, acls: Sequence[AclJson], dry_run: bool) -> list[AclJson]:
        changed: list[AclJson] = []
        for start in range(0, len(acls), ACLS_OF_REQUEST_MAX):
            body = ChangeAclsJson(list(acls[start : start + ACLS_OF_REQUEST_MAX]), dry_run)
            changed += (await self._request("POST", path, body, ChangedAclsJson)).acls
        return changed

    async def _pages(
        self, path: str, page_type: type[P], cursor: str, query: msgspec.Struct | None = None
    ) -> AsyncIterator[P]:
        """The pages of a list. `cursor`: the parameter that gets the `next` of the page before. `query`: what
        to list, with None for what is left out."""
        asked = {} if query is None else msgspec.structs.asdict(query)
        given = {name: value for name, value in asked.items() if value is not None}
        while True:
            parameters = urlencode({**given, "limit": PAGE_ROWS})
            page = await self._request("GET", f"{path}?{parameters}", None, page_type)
            yield page
            if page.next is None:
                return
            given[cursor] = page.next

    async def _request(self, method: str, path: str, body: object, reply_type: type[T]) -> T:
        return await request_json(self._address, method, path, body, reply_type)


def _path(user: str) -> str:
    return f"{USERS}/{quote(user, safe='')}"

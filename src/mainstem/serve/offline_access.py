"""Users, entries, masking rules, quotas and API tokens of a data folder that no server uses.

Owns: opening the folder for them and closing it again. With it the first user can be made before the first
start. Refuses: a folder that a server uses (CannotServe), and to listen anywhere.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from mainstem.serve import options
from mainstem.serve.errors import CannotServe
from mainstem.serve.server import check_super_users, data_folder, open_node
from mainstem.setting_definition import SettingsError

if TYPE_CHECKING:
    from mainstem.access_contract import AccessAdmin, ApiTokenStore, Authorizer
    from mainstem.clock import Clock
    from mainstem.masking.contract import Masks
    from mainstem.quota_contract import QuotaAdmin

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class OfflineTokens:
    """The API tokens of a folder, and what making one needs."""

    store: ApiTokenStore
    clock: Clock
    random_bytes: Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class OfflineAccess:
    """What a folder keeps of access. Errors are those of the contract."""

    admin: AccessAdmin
    authorizer: Authorizer
    masks: Masks
    quotas: QuotaAdmin
    tokens: OfflineTokens


async def with_access(
    data: str, environ: Mapping[str, str], work: Callable[[OfflineAccess], Awaitable[T]]
) -> T:
    """Run `work` on what the folder keeps of access; it is made if it is missing. Its authorizer decides as a
    server would that has access control on, and the other settings of `environ`. CannotServe: the folder
    cannot be used. Blocks while it reads."""
    from mainstem.engines.embedded.access_admin import TranslatedAdmin
    from mainstem.engines.embedded.mask_admin import TranslatedMasks
    from mainstem.engines.embedded.quota_admin import TranslatedQuotas
    from mainstem.engines.embedded.token_store import TranslatedTokens

    try:
        flags: dict[str, object] = {"data": data, "access_control": True}
        settings = options.load(flags, environ, environ.get("MAINSTEM_CONFIG"))
    except SettingsError as error:
        raise CannotServe("usage", str(error)) from None
    check_super_users(settings)
    node = await open_node(settings, data_folder(settings.data))
    try:
        access = node.access
        opened = OfflineAccess(
            TranslatedAdmin(access, False),
            access.authorizer,
            TranslatedMasks(access.masks, False),
            TranslatedQuotas(node.quotas, False),
            OfflineTokens(TranslatedTokens(node.api_tokens, False), node.clock, node.rng.randbytes),
        )
        return await work(opened)
    finally:
        await node.close()

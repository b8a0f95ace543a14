"""Users and permissions: list, set, delete; and who asks.

Owns: `/api/users`, `/api/permissions`, `/api/whoami`. Refuses: topic permissions, of which there are none.
"""

from __future__ import annotations

from mainstem.doors.rabbitmq_management.listing import plain_list
from mainstem.doors.rabbitmq_management.refusals import bad_request, not_in_api
from mainstem.doors.rabbitmq_management.request import (
    CREATED,
    NO_CONTENT,
    ApiAnswer,
    ManagementRequest,
    ManagementRoute,
    Tag,
)
from mainstem.doors.rabbitmq_management.user_admin import (
    delete_permissions,
    delete_user,
    permissions_in,
    permissions_json,
    put_permissions,
    put_user,
    user_json,
    user_names,
)

USER_PATH = "/users/{user}"
PERMISSIONS_PATH = "/permissions/{vhost}/{user}"
TOPIC_PERMISSIONS_PATH = "/topic-permissions/{vhost}/{user}"


async def whoami(request: ManagementRequest) -> ApiAnswer:
    """Who asks, with its tags."""
    return ApiAnswer(200, {"name": request.user, "tags": request.tags()})


async def list_users(request: ManagementRequest) -> ApiAnswer:
    """All users."""
    items = [user_json(request, name) for name in user_names(request)]
    return await plain_list(request.query, request.context.door.clock, items)


async def list_users_without_permissions(request: ManagementRequest) -> ApiAnswer:
    """The users that have no permissions in any virtual host."""
    names = user_names(request)
    allowed = {item["user"] for item in permissions_json(request, names, _vhosts(request))}
    return ApiAnswer(200, [user_json(request, name) for name in names if name not in allowed])


def _user(request: ManagementRequest) -> str:
    name = request.parameters["user"]
    if name not in user_names(request):
        raise not_in_api()
    return name


def _vhosts(request: ManagementRequest) -> list[str]:
    return [vhost.name for vhost in request.all_vhosts()]


async def get_user(request: ManagementRequest) -> ApiAnswer:
    """A user."""
    return ApiAnswer(200, user_json(request, _user(request)))


async def add_user(request: ManagementRequest) -> ApiAnswer:
    """Add or change a user."""
    name = request.parameters["user"]
    is_new = name not in user_names(request)
    await put_user(request, name, await request.body())
    return CREATED if is_new else NO_CONTENT


async def remove_user(request: ManagementRequest) -> ApiAnswer:
    """Delete a user."""
    await delete_user(request, _user(request))
    return NO_CONTENT


async def remove_users(request: ManagementRequest) -> ApiAnswer:
    """Delete several users; those that do not exist are left out."""
    names = (await request.body()).get("users")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise bad_request(["not_a_list_of_names", "users"])
    for name in set(user_names(request)).intersection(names):
        await delete_user(request, name)
    return NO_CONTENT


async def list_permissions(request: ManagementRequest) -> ApiAnswer:
    """All permissions."""
    items = permissions_json(request, user_names(request), _vhosts(request))
    return await plain_list(request.query, request.context.door.clock, items, "user")


async def list_permissions_of_user(request: ManagementRequest) -> ApiAnswer:
    """The permissions of a user."""
    return ApiAnswer(200, permissions_json(request, [_user(request)], _vhosts(request)))


async def list_permissions_of_vhost(request: ManagementRequest) -> ApiAnswer:
    """The permissions in a virtual host."""
    return ApiAnswer(200, permissions_json(request, user_names(request), [request.vhost.name]))


async def get_permissions(request: ManagementRequest) -> ApiAnswer:
    """The permissions of a user in a virtual host."""
    for item in permissions_json(request, [_user(request)], [request.vhost.name]):
        return ApiAnswer(200, item)
    raise not_in_api()


async def set_permissions(request: ManagementRequest) -> ApiAnswer:
    """Set the permissions of a user in a virtual host."""
    user, vhost = request.parameters["user"], request.parameters["vhost"]
    permissions = permissions_in(await request.body())
    if user not in user_names(request) or vhost not in _vhosts(request):
        raise bad_request("vhost_or_user_not_found")
    is_new = not permissions_json(request, [user], [vhost])
    await put_permissions(request, user, vhost, permissions)
    return CREATED if is_new else NO_CONTENT


async def clear_permissions(request: ManagementRequest) -> ApiAnswer:
    """Remove the permissions of a user in a virtual host."""
    user = _user(request)
    await delete_permissions(request, user, request.vhost.name)
    return NO_CONTENT


async def list_topic_permissions(request: ManagementRequest) -> ApiAnswer:
    """Permissions by routing key: there are none."""
    return ApiAnswer(200, [])


async def refuse_topic_permissions(request: ManagementRequest) -> ApiAnswer:
    """Permissions by routing key are refused, for they would not be kept."""
    raise bad_request("there are no topic permissions here: a permission is that of the exchange")


_ADMINISTRATOR_GETS = {
    "/users": list_users,
    "/users/without-permissions": list_users_without_permissions,
    USER_PATH: get_user,
    USER_PATH + "/permissions": list_permissions_of_user,
    USER_PATH + "/topic-permissions": list_topic_permissions,
    "/permissions": list_permissions,
    PERMISSIONS_PATH: get_permissions,
    "/vhosts/{vhost}/permissions": list_permissions_of_vhost,
    "/vhosts/{vhost}/topic-permissions": list_topic_permissions,
    "/topic-permissions": list_topic_permissions,
    TOPIC_PERMISSIONS_PATH: list_topic_permissions,
}
_CHANGES = (
    ("PUT", USER_PATH, add_user, "the tags policymaker and impersonator have no effect"),
    ("DELETE", USER_PATH, remove_user, ""),
    ("POST", "/users/bulk-delete", remove_users, ""),
    ("PUT", PERMISSIONS_PATH, set_permissions, "regular expressions other than names and their beginnings"),
    ("DELETE", PERMISSIONS_PATH, clear_permissions, ""),
    ("PUT", TOPIC_PERMISSIONS_PATH, refuse_topic_permissions, "always refused"),
)
_TOPIC_LACKS = "always empty"
ROUTES = (
    ManagementRoute(method="GET", path="/whoami", handle=whoami, rights=Tag.MANAGEMENT),
    *(
        ManagementRoute(
            method="GET",
            path=path,
            handle=handle,
            rights=Tag.ADMINISTRATOR,
            lacks=_TOPIC_LACKS if handle is list_topic_permissions else "",
        )
        for path, handle in _ADMINISTRATOR_GETS.items()
    ),
    *(
        ManagementRoute(
            method=method, path=path, handle=handle, rights=Tag.ADMINISTRATOR, changes=True, lacks=lacks
        )
        for method, path, handle, lacks in _CHANGES
    ),
)

"""The service `google.pubsub.v1.SchemaService`.

Owns: its methods, and the conversion between messages and records. Refuses: what is kept and compared
(`schema_catalog.py`). Source: google/pubsub/v1/schema.proto.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from mainstem.access_contract import Operation, ResourceType
from mainstem.contract import Engine
from mainstem.doors.pubsub.calls import RpcCall, RpcMethod, engine_of
from mainstem.doors.pubsub.refusals import arguments, invalid_argument
from mainstem.doors.pubsub.schema_catalog import SchemaCatalog, SchemaRevision, parsed
from mainstem.pubsub.avro_values import ValueInvalid
from mainstem.pubsub.durations import set_milliseconds
from mainstem.pubsub.message_schemas import SchemaEncoding, SchemaKind
from mainstem.pubsub.messages import pubsub_message
from mainstem.pubsub.names import parse_name, parse_project
from mainstem.pubsub.pages import page_of

if TYPE_CHECKING:
    from mainstem.doors.contract import DoorContext

FULL = 2
"""SchemaView: with the definition."""
KINDS: Mapping[int, SchemaKind] = {1: "PROTOCOL_BUFFER", 2: "AVRO"}
"""Schema.Type."""
ENCODINGS: Mapping[int, SchemaEncoding] = {1: "JSON", 2: "BINARY"}
"""Encoding."""
VALIDATED_BYTES_MAX = 1 << 20
"""Of a message that is compared with a schema without being published: the server does nothing else then."""


class SchemaService:
    """The methods."""

    def __init__(self, context: DoorContext) -> None:
        self._context = context
        self._catalog = SchemaCatalog(context)

    def _engine(self, call: RpcCall) -> Engine:
        return engine_of(self._context, call)

    async def create(self, call: RpcCall, data: bytes) -> bytes:
        """CreateSchema."""
        request = pubsub_message("CreateSchemaRequest").FromString(data)
        with arguments():
            project = parse_project(request.parent)
            name = str(parse_name(f"projects/{project}/schemas/{request.schema_id}", "schemas"))
        kind = _kind(request.schema.type)
        return _encoded(await self._catalog.create(self._engine(call), name, kind, request.schema.definition))

    async def get(self, call: RpcCall, data: bytes) -> bytes:
        """GetSchema."""
        request = pubsub_message("GetSchemaRequest").FromString(data)
        name, id_ = _name_and_revision(request.name)
        revision = await self._catalog.revision(self._engine(call), name, id_)
        return _encoded(revision, view=request.view or FULL)

    async def list(self, call: RpcCall, data: bytes) -> bytes:
        """ListSchemas: the latest revision of each."""
        request = pubsub_message("ListSchemasRequest").FromString(data)
        with arguments():
            project = parse_project(request.parent)
        schemas = await self._catalog.all(self._engine(call))
        prefix = f"projects/{project}/"
        names = sorted(name for name in schemas if name.startswith(prefix))
        with arguments():
            page, token = page_of(names, request.page_size, request.page_token, f"schemas {project}")
        response = pubsub_message("ListSchemasResponse")(next_page_token=token)
        response.schemas.extend([_schema_message(schemas[name][-1], request.view) for name in page])
        return bytes(response.SerializeToString())

    async def list_revisions(self, call: RpcCall, data: bytes) -> bytes:
        """ListSchemaRevisions: the latest first."""
        request = pubsub_message("ListSchemaRevisionsRequest").FromString(data)
        name = _name(request.name)
        revisions = await self._catalog.revisions(self._engine(call), name)
        by_place = {f"{(1 << 40) - revision.number:013d}": revision for revision in revisions}
        with arguments():
            page, token = page_of(
                sorted(by_place), request.page_size, request.page_token, f"revisions {name}"
            )
        response = pubsub_message("ListSchemaRevisionsResponse")(next_page_token=token)
        response.schemas.extend([_schema_message(by_place[place], request.view) for place in page])
        return bytes(response.SerializeToString())

    async def commit(self, call: RpcCall, data: bytes) -> bytes:
        """CommitSchema."""
        request = pubsub_message("CommitSchemaRequest").FromString(data)
        name = _name(request.name)
        if request.schema.name and request.schema.name != name:
            raise invalid_argument(f"the schema of the request has another name: {request.schema.name[:300]}")
        kind = _kind(request.schema.type)
        return _encoded(await self._catalog.commit(self._engine(call), name, kind, request.schema.definition))

    async def roll_back(self, call: RpcCall, data: bytes) -> bytes:
        """RollbackSchema."""
        request = pubsub_message("RollbackSchemaRequest").FromString(data)
        if not request.revision_id:
            raise invalid_argument("the revision_id is missing")
        name = _name(request.name)
        return _encoded(await self._catalog.roll_back(self._engine(call), name, request.revision_id))

    async def delete_revision(self, call: RpcCall, data: bytes) -> bytes:
        """DeleteSchemaRevision."""
        request = pubsub_message("DeleteSchemaRevisionRequest").FromString(data)
        name, id_ = _name_and_revision(request.name)
        id_ = id_ or request.revision_id  # the field is deprecated
        if not id_:
            raise invalid_argument("the name has no revision: NAME@REVISION")
        return _encoded(await self._catalog.delete_revision(self._engine(call), name, id_))

    async def delete(self, call: RpcCall, data: bytes) -> bytes:
        """DeleteSchema."""
        request = pubsub_message("DeleteSchemaRequest").FromString(data)
        await self._catalog.delete(self._engine(call), _name(request.name))
        return b""

    async def validate_schema(self, call: RpcCall, data: bytes) -> bytes:
        """ValidateSchema."""
        request = pubsub_message("ValidateSchemaRequest").FromString(data)
        with arguments():
            parse_project(request.parent)
        parsed(_kind(request.schema.type), request.schema.definition)
        return b""

    async def validate_message(self, call: RpcCall, data: bytes) -> bytes:
        """ValidateMessage: with a schema that there is, or with the definition of the request."""
        request = pubsub_message("ValidateMessageRequest").FromString(data)
        with arguments():
            parse_project(request.parent)
        encoding = encoding_of(request.encoding)
        if len(request.message) > VALIDATED_BYTES_MAX:
            raise invalid_argument(f"a message that is validated has at most {VALIDATED_BYTES_MAX:,} bytes")
        if request.WhichOneof("schema_spec") == "schema":
            schema = parsed(_kind(request.schema.type), request.schema.definition)
        else:
            name, id_ = _name_and_revision(request.name)
            revision = await self._catalog.revision(self._engine(call), name, id_)
            schema = parsed(revision.kind, revision.definition)
        try:
            schema.check(request.message, encoding)
        except ValueInvalid as error:
            raise invalid_argument(f"the message is not as the schema says: {error}") from None
        return b""


def handlers(context: DoorContext) -> Mapping[str, RpcMethod]:
    """The methods, by path."""
    service = SchemaService(context)
    describes = ((Operation.DESCRIBE, ResourceType.SUBSCRIPTION),)
    alters = ((Operation.ALTER, ResourceType.SUBSCRIPTION),)
    methods = {
        "CreateSchema": RpcMethod(unary=service.create, rights=alters, changes=True),
        "GetSchema": RpcMethod(unary=service.get, rights=describes),
        "ListSchemas": RpcMethod(unary=service.list, rights=describes),
        "ListSchemaRevisions": RpcMethod(unary=service.list_revisions, rights=describes),
        "CommitSchema": RpcMethod(unary=service.commit, rights=alters, changes=True),
        "RollbackSchema": RpcMethod(unary=service.roll_back, rights=alters, changes=True),
        "DeleteSchemaRevision": RpcMethod(unary=service.delete_revision, rights=alters, changes=True),
        "DeleteSchema": RpcMethod(unary=service.delete, rights=alters, changes=True),
        "ValidateSchema": RpcMethod(unary=service.validate_schema, rights=describes),
        "ValidateMessage": RpcMethod(unary=service.validate_message, rights=describes),
    }
    return {f"/google.pubsub.v1.SchemaService/{name}": method for name, method in methods.items()}


def encoding_of(number: int) -> SchemaEncoding:
    """The encoding of a request. RpcError: it is not set."""
    encoding = ENCODINGS.get(number)
    if encoding is None:
        raise invalid_argument("the encoding is JSON or BINARY")
    return encoding


def _kind(number: int) -> SchemaKind:
    kind = KINDS.get(number)
    if kind is None:
        raise invalid_argument("the type of a schema is PROTOCOL_BUFFER or AVRO")
    return kind


def _name(text: str) -> str:
    with arguments():
        return str(parse_name(text, "schemas"))


def _name_and_revision(text: str) -> tuple[str, str]:
    """Of `NAME` or `NAME@REVISION`."""
    name, _, id_ = text.partition("@")
    return _name(name), id_


def _encoded(revision: SchemaRevision, view: int = FULL) -> bytes:
    return cast(bytes, _schema_message(revision, view).SerializeToString())


def _schema_message(revision: SchemaRevision, view: int) -> Any:
    shown = pubsub_message("Schema")(name=revision.name, revision_id=revision.id)
    shown.type = next(number for number, kind in KINDS.items() if kind == revision.kind)
    if view == FULL:
        shown.definition = revision.definition
    set_milliseconds(shown.revision_create_time, revision.created_ms)
    return shown

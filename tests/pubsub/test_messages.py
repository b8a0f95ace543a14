"""The messages of Pub/Sub: all are there, in a pool that Google's own modules do not share."""

from __future__ import annotations

from google.protobuf import descriptor_pool, json_format

from mainstem.pubsub.messages import message, methods, pool


def test_all_methods_are_there() -> None:
    by_service: dict[str, int] = {}
    for path in methods():
        service = path.split("/")[1]
        by_service[service] = by_service.get(service, 0) + 1
    assert by_service == {
        "google.pubsub.v1.Publisher": 9,
        "google.pubsub.v1.Subscriber": 16,
        "google.pubsub.v1.SchemaService": 10,
        "google.iam.v1.IAMPolicy": 3,
    }


def test_methods_have_their_messages_and_paths_of_rest() -> None:
    publish = methods()["/google.pubsub.v1.Publisher/Publish"]
    request = message(publish.input_type.full_name)
    decoded = request.FromString(request(topic="projects/p/topics/flights").SerializeToString())
    assert decoded.topic == "projects/p/topics/flights"
    http = message("google.api.HttpRule")
    options = message("google.protobuf.MethodOptions").FromString(publish.GetOptions().SerializeToString())
    rule = options.Extensions[pool().FindExtensionByName("google.api.http")]
    assert isinstance(rule, http)
    assert (rule.post, rule.body) == ("/v1/{topic=projects/*/topics/*}:publish", "*")


def test_times_are_json_as_in_rest() -> None:
    sent = json_format.ParseDict(
        {"data": "SkZL", "attributes": {"carrier": "UA"}, "publishTime": "2013-01-01T10:00:00Z"},
        message("google.pubsub.v1.PubsubMessage")(),
        descriptor_pool=pool(),
    )
    assert (sent.data, sent.publish_time.seconds) == (b"JFK", 1_357_034_400)
    assert json_format.MessageToDict(sent, descriptor_pool=pool())["publishTime"] == "2013-01-01T10:00:00Z"


def test_the_pool_is_not_the_one_of_the_process() -> None:
    assert pool() is not descriptor_pool.Default()
    assert message("google.rpc.ErrorInfo")(reason="EXACTLY_ONCE_ACKID_FAILURE").reason

"""What a resume token says of topics: by name and id, so that a search goes on only where it began."""

from __future__ import annotations

import base64
import zlib
from pathlib import Path

import msgspec
import pytest

from mainstem.contract import InvalidArgument
from mainstem.search.contract import SearchRequest
from tests.search.search_rig import NOW_MS, SearchRig, run, run_on_search_rig
from tests.search.test_search import fill


def test_a_search_does_not_resume_in_a_topic_that_was_created_again(tmp_path: Path) -> None:
    """Its offsets are those of other events: what was searched before would be skipped."""

    async def work(rig: SearchRig) -> None:
        await fill(rig, batches=5)
        for search in rig.searches():
            token = (await run(search, SearchRequest(query="alpha", limit=1))).end.resume
            await rig.engine.delete_topic("payments")
            rest = await run(search, SearchRequest(query="alpha", limit=None, resume=token))
            assert {place[0] for place in rest.places} == {"orders"}, "a topic that is gone is left out"
            await rig.engine.create_topic("payments", partitions=3)
            await rig.append("payments", 0, [(None, b"alpha", [], NOW_MS)])
            with pytest.raises(InvalidArgument, match="resume: topic payments was deleted and created again"):
                await run(search, SearchRequest(query="alpha", limit=None, resume=token))
            assert (await run(search, SearchRequest(query="alpha", limit=1))).places

    run_on_search_rig(tmp_path, work)


def test_a_token_without_topic_ids_is_refused(tmp_path: Path) -> None:
    async def work(rig: SearchRig) -> None:
        await fill(rig, batches=5)
        token = (await run(rig.local, SearchRequest(query="alpha", limit=1))).end.resume
        assert token is not None
        packed = zlib.decompress(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        checksum, newest_first, topics, remaining = msgspec.msgpack.decode(packed)
        by_name = [(topics[number][0], *rest) for number, *rest in remaining]
        beyond = [(len(topics), *rest) for _, *rest in remaining]
        before = [(-1, *rest) for _, *rest in remaining]
        for fields in (
            (checksum, newest_first, by_name),
            (checksum, newest_first, topics, beyond),
            (checksum, newest_first, topics, before),
        ):
            forged = base64.urlsafe_b64encode(zlib.compress(msgspec.msgpack.encode(fields))).decode()
            with pytest.raises(InvalidArgument, match="not a token of a search"):
                await run(rig.local, SearchRequest(query="alpha", resume=forged))

    run_on_search_rig(tmp_path, work)

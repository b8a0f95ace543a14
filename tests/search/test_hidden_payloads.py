"""What users look for and would not find if words and payloads were taken literally."""

from __future__ import annotations

from pathlib import Path

import pytest
from crc32c import crc32c

from mainstem.search.blocks import token_filter
from mainstem.search.contract import SearchRequest
from tests.search.search_rig import NOW_MS, SearchRig, run, run_on_search_rig

PAYLOADS = {
    "東京": "昨日東京タワーへ行った".encode(),
    "서울": '{"text": "서울에서 만나요"}'.encode(),
    "ดี": "ร้านนี้ดีมาก".encode(),
    "北京": rb'{"city": "\u5317\u4eac\u5e02"}',
    "severity>=5": b'{"severity": 7}',
    "unit=42": b'{"unit": 42.0}',
    "2001:db8::8a2e": b'{"peer": "2001:db8::8a2e"}',
    "arn:aws:s3:::orders/2013": b'{"resource": "arn:aws:s3:::orders/2013"}',
    "10:15:30": b'{"at": "2013-06-02T10:15:30Z"}',
    "2013-06-01": b'{"at": "2013-06-01T09:00:00Z"}',
    "mark:bom": b'\xef\xbb\xbf{"mark": "bom"}',
    "nan:word": b'{"x": NaN, "nan": "word"}',
    "schema:registry": b'\0\0\0\1\xff{"schema": "registry"}',
    "registry": b'\0\0\0\1\xff{"schema": "registry"}',
    "inner.level:33": rb'{"inner": "{\"level\": 33}"}',
    "inner.note:*last": rb'{"inner": "{\"note\": \"a\\nlast\"}"}',
    'inner.note:"a last"': rb'{"inner": "{\"note\": \"a\\u0020last\"}"}',
}
"""A query, and a payload that it finds."""


def test_what_users_look_for_is_a_match_with_and_without_token_filters(tmp_path: Path) -> None:
    async def work(rig: SearchRig) -> None:
        await rig.engine.create_topic("orders", partitions=1)
        for value in dict.fromkeys(PAYLOADS.values()):
            await rig.append("orders", 0, [(None, value, (), NOW_MS)])
            await rig.append("orders", 0, [(None, b"filler " * 700, (), NOW_MS)])
        for is_filtered in (False, True):
            if is_filtered:
                assert await rig.local.build_missing_filters() > 10
            for query, value in PAYLOADS.items():
                result = await run(rig.local, SearchRequest(query=query, limit=None))
                assert value in {event.value for event in result.events}, query
                assert len(result.events) <= 3, query

    run_on_search_rig(tmp_path, work, workers=1, block_bytes=4096)


def test_a_token_filter_of_another_version_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A filter of 0.1.0 has 昨日東京タワーへ行った as one token."""

    async def work(rig: SearchRig) -> None:
        await rig.engine.create_topic("orders", partitions=1)
        for _ in range(3):
            await rig.append("orders", 0, [(None, PAYLOADS["東京"] + b" filler" * 700, (), NOW_MS)])
        assert await rig.local.build_missing_filters() > 1
        filters = list((rig.folder / "search").rglob("*.tokens"))
        assert filters
        for path in filters:
            assert token_filter.read_filter_info(path) is not None
            data, size = path.read_bytes(), token_filter._HEAD.size
            head = b"MSTOKEN1" + data[8:size]
            path.write_bytes(head + crc32c(head).to_bytes(4, "big") + data[size + 4 :])
            assert token_filter.read_filter_info(path) is None
            with monkeypatch.context() as older:
                older.setattr(token_filter, "MAGIC", b"MSTOKEN1")
                assert token_filter.read_filter_info(path) is not None

    run_on_search_rig(tmp_path, work, workers=1, block_bytes=4096)

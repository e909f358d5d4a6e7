"""Event filtering against the cases that the pattern language documents."""

import json
from typing import Any

import pytest

from local.clouds.aws.event_sources.patterns import EventFilter
from local.clouds.errors import UnsupportedError

RECORD = {
    "eventName": "MODIFY",
    "userIdentity": None,
    "flags": ["red", "blue"],
    "size": 12,
    "on": True,
    "dynamodb": {"Keys": {"entity": {"S": "user#1"}}, "NewImage": {"v": {"N": "8"}, "e": {"B": "AA=="}}},
}


def event_filter(*patterns: Any) -> EventFilter:
    return EventFilter.of({"filters": [{"pattern": json.dumps(pattern)} for pattern in patterns]})


@pytest.mark.parametrize(
    ("pattern", "passes"),
    [
        ({"eventName": ["INSERT", "MODIFY"]}, True),
        ({"eventName": ["INSERT"]}, False),
        ({"dynamodb": {"Keys": {"entity": {"S": [{"prefix": "user#"}]}}}}, True),
        ({"dynamodb": {"Keys": {"entity": {"S": [{"prefix": "session#"}]}}}}, False),
        ({"dynamodb": {"Keys": {"entity": {"S": [{"suffix": "#1"}]}}}}, True),
        ({"dynamodb": {"NewImage": {"origin": {"S": [{"exists": False}]}}}}, True),
        ({"dynamodb": {"NewImage": {"v": {"N": [{"exists": True}]}}}}, True),
        ({"dynamodb": {"NewImage": [{"exists": True}]}}, False),
        ({"dynamodb": {"OldImage": {"v": {"N": [{"exists": True}]}}}}, False),
        ({"eventName": [{"anything-but": ["REMOVE", "INSERT"]}]}, True),
        ({"eventName": [{"anything-but": "MODIFY"}]}, False),
        ({"eventName": [{"anything-but": {"prefix": "MOD"}}]}, False),
        ({"size": [{"numeric": [">", 10, "<=", 12]}]}, True),
        ({"size": [{"numeric": ["<", 12]}]}, False),
        ({"size": [12.0]}, True),
        ({"on": [1]}, False),
        ({"on": [True]}, True),
        ({"dynamodb": {"NewImage": {"v": {"N": [{"numeric": [">", 1]}]}}}}, False),
        ({"userIdentity": [None]}, True),
        ({"flags": ["blue"]}, True),
        ({"flags": ["green"]}, False),
        ({"eventName": [{"equals-ignore-case": "modify"}]}, True),
        ({"$or": [{"eventName": ["INSERT"]}, {"size": [12]}]}, True),
        ({"$or": [{"eventName": ["INSERT"]}, {"size": [13]}]}, False),
    ],
)
def test_pattern(pattern: dict[str, Any], passes: bool) -> None:
    assert event_filter(pattern).passes(RECORD) is passes


def test_one_of_several_patterns_is_enough_and_none_passes_all() -> None:
    assert event_filter({"eventName": ["INSERT"]}, {"eventName": ["MODIFY"]}).passes(RECORD)
    assert EventFilter.of(None).passes(RECORD)


@pytest.mark.parametrize(
    "pattern",
    [
        "{",
        '"text"',
        "{}",
        '{"a": [{"wildcard": "x*"}]}',
        '{"a": [{"numeric": [">"]}]}',
        '{"a": [{"numeric": ["~", 1]}]}',
        '{"a": 1}',
    ],
)
def test_what_is_not_carried_out_is_refused(pattern: str) -> None:
    with pytest.raises(UnsupportedError, match="filter"):
        EventFilter.of({"filters": [{"pattern": pattern}]})

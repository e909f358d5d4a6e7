"""Sessions: at home on both sites at once, never rolled back by a replay, closed for good, and safe from forgers."""

import base64
import json
import secrets
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.features.errors import SessionKeysError, SessionRefusedError, SessionTooLargeError
from functions.features.sessions.keys import KeyRing, parse_keys
from functions.features.sessions.store import IDLE_SECONDS, LONGEST_SECONDS, Refusal, SessionStore
from functions.settings import Site
from tests.unit.features.memory_tables import MemoryTable

NOW_MS = 1_795_500_000_000
RING = KeyRing("k1", {"k1": b"1" * 32})


class Sites:
    """Both sites, nothing replicated unless a test says so."""

    def __init__(self, ring: KeyRing = RING) -> None:
        self.now_ms = NOW_MS
        self.tables = {site: MemoryTable() for site in Site}
        self.stores = {site: SessionStore(self.tables[site], site, ring, lambda: self.now_ms) for site in Site}
        self.aws, self.gcp = (self.stores[site] for site in Site)

    def replicate(self) -> None:
        rows = [row for table in self.tables.values() for row in table.rows.values()]
        for table in self.tables.values():
            table.apply(rows)


def refusal(sites: Sites, site: Site, token: str) -> str:
    with pytest.raises(SessionRefusedError) as refused:
        sites.stores[site].read(token)
    return refused.value.reason


def test_the_other_site_serves_a_session_before_its_row_arrives() -> None:
    sites = Sites()
    opened = sites.aws.open({"user": "ada", "basket": ["p1"]})
    there = sites.gcp.read(opened.token)
    assert (there.identity, there.attributes) == (opened.identity, {"user": "ada", "basket": ["p1"]})
    saved = sites.gcp.save(opened.token, {"user": "ada", "basket": ["p1", "p2"]})
    assert saved.version > opened.version
    back = sites.aws.read(saved.token)
    assert back.attributes["basket"] == ["p1", "p2"]
    sites.replicate()
    assert sites.tables[Site.AWS].rows == sites.tables[Site.GCP].rows


def test_an_old_token_rolls_nothing_back() -> None:
    sites = Sites()
    first = sites.aws.open({"n": 1})
    second = sites.aws.save(first.token, {"n": 2})
    assert sites.aws.read(first.token).attributes == {"n": Decimal(2)}
    sites.gcp.read(second.token)
    assert sites.gcp.read(first.token).attributes == {"n": Decimal(2)}
    assert sites.gcp.read(first.token).token == second.token
    third = sites.gcp.save(first.token, {"n": 3})
    assert third.version > second.version


def test_closed_stays_closed_whatever_was_saved_elsewhere() -> None:
    sites = Sites()
    opened = sites.aws.open({"user": "ada"})
    sites.gcp.read(opened.token)
    sites.aws.close(opened.token)
    sites.now_ms += 500
    # The closing has not arrived, and the save carries the larger version.
    saved = sites.gcp.save(opened.token, {"user": "ada", "evil": True})
    sites.replicate()
    for site in Site:
        for token in (opened.token, saved.token):
            assert refusal(sites, site, token) == Refusal.CLOSED
    sites.aws.close(opened.token)
    assert refusal(sites, Site.GCP, saved.token) == Refusal.CLOSED


def test_sessions_end_by_idleness_and_by_age() -> None:
    sites = Sites()
    opened = sites.aws.open({"n": 1})
    sites.now_ms += IDLE_SECONDS * 1000 - 1
    token = sites.aws.save(opened.token, {"n": 1}).token
    sites.now_ms += 1
    assert refusal(sites, Site.GCP, opened.token) == Refusal.ENDED
    while sites.now_ms - NOW_MS < (LONGEST_SECONDS - IDLE_SECONDS) * 1000:
        sites.now_ms += IDLE_SECONDS * 900
        token = sites.aws.save(token, {"n": 1}).token
    assert sites.aws.read(token).expires == NOW_MS // 1000 + LONGEST_SECONDS
    sites.now_ms = NOW_MS + LONGEST_SECONDS * 1000
    assert refusal(sites, Site.AWS, token) == Refusal.ENDED
    # A row that ended ends older tokens too; a closed mark outlives them all.
    assert all(row.version > 0 for row in sites.tables[Site.AWS].rows.values())


def test_keys_are_changed_without_losing_a_session() -> None:
    old, new = secrets.token_bytes(32), secrets.token_bytes(32)
    sites = Sites(KeyRing("old", {"old": old}))
    token = sites.aws.open({"n": 1}).token
    both = KeyRing("new", {"old": old, "new": new})
    later = SessionStore(sites.tables[Site.GCP], Site.GCP, both, lambda: sites.now_ms)
    fresh = later.read(token)
    assert fresh.token.startswith("new.")
    last = SessionStore(sites.tables[Site.GCP], Site.GCP, KeyRing("new", {"new": new}), lambda: sites.now_ms)
    assert last.read(fresh.token).attributes == {"n": 1}
    with pytest.raises(SessionRefusedError) as refused:
        last.read(token)
    assert refused.value.reason == Refusal.UNKNOWN_KEY


@given(st.data())
def test_a_changed_token_is_never_taken(data: st.DataObject) -> None:
    sites = Sites()
    token = sites.aws.open({"user": "ada"}).token
    position = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.sampled_from("ABCabc012-_.é "))
    forged = token[:position] + other + token[position + 1 :]
    try:
        found = sites.gcp.read(forged)
    except SessionRefusedError:
        assert not sites.tables[Site.GCP].rows
        return
    # Base64 has bits at the end that carry nothing: another spelling of the same token.
    assert found.attributes == {"user": "ada"}
    assert found.token == token


@given(st.one_of(st.text(max_size=80), st.sampled_from(["..", "k1..", "k1.AAAA.AAAA", "k1." + "A" * 5000 + ".A"])))
def test_whatever_is_no_token_is_refused(text: str) -> None:
    sites = Sites()
    with pytest.raises(SessionRefusedError):
        sites.aws.read(text)
    with pytest.raises(SessionRefusedError):
        sites.aws.close(text)
    assert not sites.tables[Site.AWS].rows


def test_a_session_from_a_clock_far_ahead_is_refused_and_large_ones_are_too() -> None:
    sites = Sites()
    sites.now_ms += 120_000
    token = sites.aws.open({"n": 1}).token
    sites.now_ms -= 120_000
    assert refusal(sites, Site.GCP, token) == Refusal.AHEAD
    with pytest.raises(SessionTooLargeError):
        sites.aws.open({"basket": "x" * 3_000})


def test_keys_are_read_and_never_shown() -> None:
    secret = base64.b64encode(b"s" * 32).decode()
    ring = parse_keys(json.dumps({"current": "k2", "keys": {"k1": secret, "k2": secret}}))
    assert ring.knows("k1")
    assert "ssss" not in repr(ring)
    for wrong in (
        "",
        "[]",
        json.dumps({"current": "k1", "keys": {"k1": base64.b64encode(b"short").decode()}}),
        json.dumps({"current": "k3", "keys": {"k1": secret}}),
        json.dumps({"current": "a.b", "keys": {"a.b": secret}}),
        json.dumps({"current": "k1", "keys": {"k1": secret + "!"}}),
    ):
        with pytest.raises(SessionKeysError) as refused:
            parse_keys(wrong)
        assert secret not in str(refused.value)

"""The totals add up, whatever came; the log is bounded and says what it lost."""

from hypothesis import given
from hypothesis import strategies as st

from local.clouds.cloudflare.statistics import Outcome, Statistics, outcome_of

REQUESTS = st.lists(
    st.tuples(
        st.sampled_from([200, 404, 499, 500, 503, 521, 524]), st.booleans(), st.sampled_from(["aws", "gcp", None])
    )
)


def record(statistics: Statistics, status: int, outcome: Outcome, pool: str | None) -> None:
    statistics.record(
        time_ms=1, balancer="b", pool=pool, origin=pool, status=status, outcome=outcome, duration_ms=1.23456
    )


@given(REQUESTS)
def test_sent_is_the_sum_of_outcomes(requests: list[tuple[int, bool, str | None]]) -> None:
    statistics = Statistics()
    for status, retried, pool in requests:
        record(statistics, status, outcome_of(status, retried), pool)
    totals = statistics.totals()
    assert totals["sent"] == len(requests) == sum(int(totals[o.value]) for o in Outcome)  # type: ignore[call-overload]
    assert sum(pool["sent"] for pool in totals["pools"].values()) == len(requests)  # type: ignore[attr-defined]
    assert sum(totals["statuses"].values()) == len(requests)  # type: ignore[attr-defined]


@given(st.integers(0, 30), st.integers(1, 10), st.integers(1, 7))
def test_reading_on_from_next_sees_every_kept_record_once(count: int, limit: int, page: int) -> None:
    statistics = Statistics(limit)
    for _ in range(count):
        record(statistics, 200, Outcome.OK, "aws")
    seen: list[int] = []
    answer = statistics.since(0, page)
    lost = answer["lost"]
    while answer["requests"]:
        seen += [item["sequence"] for item in answer["requests"]]  # type: ignore[attr-defined]
        answer = statistics.since(answer["next"], page)  # type: ignore[arg-type]
    assert seen == list(range(max(1, count - limit + 1), count + 1))
    assert lost == max(0, count - limit)


def test_outcomes() -> None:
    assert outcome_of(200, retried=False) is Outcome.OK
    assert outcome_of(404, retried=True) is Outcome.RESCUED
    assert outcome_of(503, retried=True) is Outcome.FAILED

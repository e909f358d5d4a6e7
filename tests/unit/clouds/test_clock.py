"""When schedules are due, against a calendar walked minute by minute."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local.clouds.clock import Cron, Rate, aws_timetable, unix_timetable
from local.clouds.errors import UnsupportedError

MONDAY = datetime(2026, 11, 23, 10, 30, 20, tzinfo=UTC)


def test_a_rate_begins_at_once_and_goes_on() -> None:
    rate = aws_timetable("rate(5 minutes)")
    assert rate.first(MONDAY) == MONDAY
    assert rate.after(MONDAY) == MONDAY + timedelta(minutes=5)
    assert aws_timetable("rate(1 day)") == Rate(timedelta(days=1))


@pytest.mark.parametrize(
    ("expression", "due"),
    [
        ("cron(0 3 * * ? *)", datetime(2026, 11, 24, 3, tzinfo=UTC)),
        ("cron(31 10 * * ? *)", datetime(2026, 11, 23, 10, 31, tzinfo=UTC)),
        ("cron(0/15 * * * ? *)", datetime(2026, 11, 23, 10, 45, tzinfo=UTC)),
        ("cron(0 12 ? * MON-FRI *)", datetime(2026, 11, 23, 12, tzinfo=UTC)),
        ("cron(0 12 ? * 1 *)", datetime(2026, 11, 29, 12, tzinfo=UTC)),
        ("cron(0 0 29 2 ? *)", datetime(2028, 2, 29, tzinfo=UTC)),
    ],
)
def test_cron_of_aws(expression: str, due: datetime) -> None:
    assert aws_timetable(expression).first(MONDAY) == due


@pytest.mark.parametrize(
    ("expression", "due"),
    [
        ("*/5 * * * *", datetime(2026, 11, 23, 10, 35, tzinfo=UTC)),
        ("17 4 * * *", datetime(2026, 11, 24, 4, 17, tzinfo=UTC)),
        ("0 0 * * 0", datetime(2026, 11, 29, tzinfo=UTC)),
        ("0 0 * * 7", datetime(2026, 11, 29, tzinfo=UTC)),
        ("0 0 1 * sun", datetime(2026, 11, 29, tzinfo=UTC)),
    ],
)
def test_cron_of_unix(expression: str, due: datetime) -> None:
    assert unix_timetable(expression).first(MONDAY) == due


def test_hours_are_those_of_the_zone() -> None:
    due = unix_timetable("0 3 * * *", "Europe/Berlin").first(MONDAY)
    assert due.astimezone(UTC) == datetime(2026, 11, 24, 2, tzinfo=UTC)
    assert due.tzinfo == ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "rate(0 minutes)",
        "rate(1 week)",
        "cron(* * * * ?)",
        "cron(0 0 L * ? *)",
        "cron(60 * * * ? *)",
        "at(2026-11-23T10:00:00)",
    ],
)
def test_what_is_not_read_is_refused(expression: str) -> None:
    with pytest.raises(UnsupportedError, match="schedule"):
        aws_timetable(expression)


def test_a_day_that_never_comes_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="never comes"):
        unix_timetable("0 0 30 2 *").first(MONDAY)


FIELDS = st.tuples(
    st.sampled_from(["*", "0", "*/7", "5,50", "10-20/5"]),
    st.sampled_from(["*", "3", "*/6", "22-23"]),
    st.sampled_from(["*", "1", "28-31"]),
    st.sampled_from(["*", "feb", "11,12"]),
    st.sampled_from(["*", "mon", "5-7"]),
)


@settings(max_examples=60, deadline=None)
@given(FIELDS, st.integers(0, 4 * 366 * 24 * 60))
def test_no_due_minute_is_passed_over(fields: tuple[str, ...], minutes: int) -> None:
    start = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes)
    cron = unix_timetable(" ".join(fields))
    assert isinstance(cron, Cron)
    due = cron.after(start)
    assert due > start
    at = start + timedelta(minutes=1)
    for _ in range(5_000):
        if at >= due:
            assert at == due
            return
        day, weekday = at.day in cron.days, at.isoweekday() % 7 in cron.weekdays
        fits = (day or weekday) if cron.either else (day and weekday)
        assert not (fits and at.minute in cron.minutes and at.hour in cron.hours and at.month in cron.months)
        at += timedelta(minutes=1)

"""When a schedule is due: the expressions of both clouds' schedulers, read into one form. Pure.

AWS: `rate(5 minutes)` and `cron(minute hour day month weekday year)`
(https://docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html). Google: the five fields of unix cron
(https://cloud.google.com/scheduler/docs/configuring/cron-job-schedules). Of cron's fields, `*`, numbers, names, lists, ranges and
steps are read; AWS's L, W and # and its `at(...)` are refused: nothing here would carry them out.
"""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from local.clouds.errors import UnsupportedError

_RATE = re.compile(r"rate\((\d+) (minute|hour|day)s?\)")
_AWS_CRON = re.compile(r"cron\(([^)]+)\)")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
# A day that comes at all comes within so many years: 29 February of a year that is a century.
_FARTHEST_DAYS = 8 * 366


@dataclass(frozen=True)
class Rate:
    """Every so often, the first time at once."""

    every: timedelta

    def first(self, now: datetime) -> datetime:
        """Return when a schedule that begins now is due for the first time."""
        return now

    def after(self, moment: datetime) -> datetime:
        """Return when it is due after it was due at `moment`."""
        return moment + self.every


@dataclass(frozen=True)
class Cron:
    """At all minutes whose fields are listed; `weekdays` count from Sunday as 0. `either`: a listed day of any kind is enough."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either: bool
    zone: ZoneInfo

    def first(self, now: datetime) -> datetime:
        """Return when a schedule that begins now is due for the first time."""
        return self.after(now)

    def after(self, moment: datetime) -> datetime:
        """Return the first minute after `moment` that fits; `moment` and the answer know their zone. Raises UnsupportedError."""
        at = moment.astimezone(self.zone).replace(second=0, microsecond=0) + timedelta(minutes=1)
        for _ in range(_FARTHEST_DAYS):
            if self._day_fits(at):
                for hour in sorted(hour for hour in self.hours if hour >= at.hour):
                    least = at.minute if hour == at.hour else 0
                    minute = min((minute for minute in self.minutes if minute >= least), default=None)
                    if minute is not None:
                        return at.replace(hour=hour, minute=minute)
            at = at.replace(hour=0, minute=0) + timedelta(days=1)
        raise UnsupportedError("the schedule names a day that never comes")

    def _day_fits(self, at: datetime) -> bool:
        day, weekday = at.day in self.days, at.isoweekday() % 7 in self.weekdays
        return at.month in self.months and ((day or weekday) if self.either else (day and weekday))


Timetable = Rate | Cron


def aws_timetable(expression: str, zone: str = "UTC") -> Timetable:
    """Read an expression of EventBridge Scheduler. Raises UnsupportedError."""
    if found := _RATE.fullmatch(expression):
        if int(found[1]) < 1:
            raise UnsupportedError(f"schedule {expression!r} never comes")
        return Rate(timedelta(**{f"{found[2]}s": int(found[1])}))
    cron = _AWS_CRON.fullmatch(expression)
    fields = cron[1].split() if cron else []
    if len(fields) != 6 or fields[5] != "*":
        raise UnsupportedError(
            f"schedule {expression!r}: the local cloud reads rate(N minutes|hours|days) and cron(...) of six fields, the year *"
        )
    # AWS counts weekdays from Sunday as 1, and one of the two kinds of days is always a question mark.
    day, weekday = fields[2].replace("?", "*"), fields[4].replace("?", "*")
    return _cron(expression, [fields[0], fields[1], day, fields[3], weekday], zone, sunday=1)


def unix_timetable(expression: str, zone: str = "UTC") -> Timetable:
    """Read an expression of Cloud Scheduler. Raises UnsupportedError."""
    fields = expression.split()
    if len(fields) != 5:
        raise UnsupportedError(f"schedule {expression!r} does not have the five fields of unix cron")
    return _cron(expression, fields, zone, sunday=0)


def _cron(expression: str, fields: list[str], zone: str, sunday: int) -> Cron:
    try:
        weekdays = _numbers(fields[4], sunday, sunday + (6 if sunday else 7), _WEEKDAYS, sunday)
        return Cron(
            _numbers(fields[0], 0, 59),
            _numbers(fields[1], 0, 23),
            _numbers(fields[2], 1, 31),
            _numbers(fields[3], 1, 12, _MONTHS, 1),
            frozenset((number - sunday) % 7 for number in weekdays),
            # Unix cron: where both kinds of days are restricted, either is enough.
            either=fields[2] != "*" and fields[4] != "*",
            zone=ZoneInfo(zone),
        )
    except (ValueError, ZoneInfoNotFoundError) as error:
        raise UnsupportedError(
            f"schedule {expression!r} in zone {zone!r} is not read by the local cloud: {error}"
        ) from error


def _numbers(field: str, least: int, most: int, names: tuple[str, ...] = (), first: int = 0) -> frozenset[int]:
    """Return the numbers that a field lists. Raises ValueError."""

    def number(text: str) -> int:
        return names.index(text.lower()) + first if text.lower() in names else int(text)

    found: set[int] = set()
    for item in field.split(","):
        span, _, step = item.partition("/")
        low, _, high = span.partition("-")
        start = least if span == "*" else number(low)
        end = most if span == "*" or (step and not high) else number(high or low)
        if not least <= start <= end <= most or (step and int(step) < 1):
            raise ValueError(f"{item!r} is not within {least} to {most}")
        found.update(range(start, end + 1, int(step) if step else 1))
    return frozenset(found)

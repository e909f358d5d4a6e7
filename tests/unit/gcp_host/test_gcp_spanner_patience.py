"""How long a reading of Spanner's change stream may be silent."""

from local.clouds.gcp.spanner_stream import LONGEST_SILENCE_SECONDS, SILENCE_SECONDS, patience


def test_readings_that_get_nowhere_are_given_more_and_one_that_moves_begins_anew() -> None:
    given = [SILENCE_SECONDS]
    for _ in range(6):
        given.append(patience(given[-1], moved=False))
    assert given[:4] == [6.0, 12.0, 24.0, 48.0]
    assert given[-1] == LONGEST_SILENCE_SECONDS
    assert patience(given[-1], moved=True) == SILENCE_SECONDS

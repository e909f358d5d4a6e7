"""Numbers as DynamoDB has them: decimal text of up to 38 digits, never a binary float, one spelling for one value."""

import decimal
import re

from functions.features.errors import EnvelopeError

# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/HowItWorks.NamingRulesDataTypes.html
MOST_DIGITS = 38
_LEAST_EXPONENT = -130
_LARGEST_EXPONENT = 125
# Plain notation of the smallest number: sign, "0.", 129 zeros, 38 digits.
_MOST_CHARACTERS = 256

# With sign and point among its characters it has at most as many digits as are allowed.
SPELLED = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]*[1-9])?").fullmatch

_EXACT = decimal.Context(
    prec=MOST_DIGITS, traps=[decimal.Inexact, decimal.InvalidOperation, decimal.Overflow], Emax=999, Emin=-999
)


def canonical(text: str) -> str:
    """Return the one spelling of the number: plain notation, no exponent, no needless zero, no plus, no negative zero.

    Raises EnvelopeError for what DynamoDB would refuse: no number, more than 38 digits, outside its range.
    """
    return text if is_canonical(text) else _by_decimal(text)


def is_canonical(text: str) -> bool:
    """Return whether the text is a number in its one spelling, as far as that shows at a glance.

    Nearly every number that arrives is, and Decimal costs ten times this test.
    """
    return len(text) <= MOST_DIGITS and SPELLED(text) is not None and text != "-0"


def _by_decimal(text: str) -> str:
    if len(text) > _MOST_CHARACTERS or not text.isascii() or "_" in text or text.strip() != text:
        raise EnvelopeError(f"number {text[:40]!r} is not spelled as a decimal number")
    try:
        value = _EXACT.create_decimal(text)
    except decimal.DecimalException as error:
        raise EnvelopeError(f"number {text[:40]!r} is none, or has more than {MOST_DIGITS} digits") from error
    if not value.is_finite():
        raise EnvelopeError(f"number {text[:40]!r} is not finite")
    if not value:
        return "0"
    if not _LEAST_EXPONENT <= value.adjusted() <= _LARGEST_EXPONENT:
        raise EnvelopeError(f"number {text[:40]!r} is outside 1E{_LEAST_EXPONENT} to 9.9E{_LARGEST_EXPONENT}")
    plain = format(value, "f")
    return plain.rstrip("0").rstrip(".") if "." in plain else plain

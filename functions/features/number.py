"""Numbers as DynamoDB has them: decimal text of up to 38 digits, never a binary float, one spelling for one value."""

import decimal

from functions.features.errors import EnvelopeError

# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/HowItWorks.NamingRulesDataTypes.html
_DIGITS = 38
_LEAST_EXPONENT = -130
_LARGEST_EXPONENT = 125
# Plain notation of the smallest number: sign, "0.", 129 zeros, 38 digits.
_MOST_CHARACTERS = 256

_EXACT = decimal.Context(
    prec=_DIGITS, traps=[decimal.Inexact, decimal.InvalidOperation, decimal.Overflow], Emax=999, Emin=-999
)


def canonical(text: str) -> str:
    """Return the one spelling of the number: plain notation, no exponent, no needless zero, no plus, no negative zero.

    Raises EnvelopeError for what DynamoDB would refuse: no number, more than 38 digits, outside its range.
    """
    # Nearly every number that arrives is spelled this way already, and Decimal costs ten times these tests.
    body = text[1:] if text[:1] == "-" else text
    whole, dot, fraction = body.partition(".")
    if (
        whole.isdecimal()
        and body.isascii()
        and (whole[0] != "0" or whole == "0")
        and ((fraction.isdecimal() and fraction[-1] != "0") if dot else (text != "-0"))
        and len(body) <= _DIGITS
    ):
        return text
    return _by_decimal(text)


def _by_decimal(text: str) -> str:
    if len(text) > _MOST_CHARACTERS or not text.isascii() or "_" in text or text.strip() != text:
        raise EnvelopeError(f"number {text[:40]!r} is not spelled as a decimal number")
    try:
        value = _EXACT.create_decimal(text)
    except decimal.DecimalException as error:
        raise EnvelopeError(f"number {text[:40]!r} is none, or has more than {_DIGITS} digits") from error
    if not value.is_finite():
        raise EnvelopeError(f"number {text[:40]!r} is not finite")
    if not value:
        return "0"
    if not _LEAST_EXPONENT <= value.adjusted() <= _LARGEST_EXPONENT:
        raise EnvelopeError(f"number {text[:40]!r} is outside 1E{_LEAST_EXPONENT} to 9.9E{_LARGEST_EXPONENT}")
    plain = format(value, "f")
    return plain.rstrip("0").rstrip(".") if "." in plain else plain

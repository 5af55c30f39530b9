"""Weights in other units, and what they are called."""

POUNDS = 2.20462
OUNCES = 35.274
STONES = 0.157473


def to_pounds(kilograms):
    """Convert a weight in kilograms to pounds."""
    if kilograms < 0:
        raise ValueError("a weight is not negative")
    return kilograms * POUNDS


def to_ounces(kilograms):
    """Convert a weight in kilograms to ounces."""
    if kilograms < 0:
        raise ValueError("a weight is not negative")
    return kilograms * OUNCES


def to_stones(kilograms):
    """Convert a weight in kilograms to stones."""
    if kilograms < 0:
        raise ValueError("a weight is not negative")
    return kilograms * STONES


def from_pounds(pounds):
    """Convert a weight in pounds to kilograms."""
    if pounds < 0:
        raise ValueError("a weight is not negative")
    return pounds / POUNDS


def from_ounces(ounces):
    """Convert a weight in ounces to kilograms."""
    if ounces < 0:
        raise ValueError("a weight is not negative")
    return ounces / OUNCES

"""Lengths in other units, and what they are called."""

FEET = 3.28084
YARDS = 1.09361
INCHES = 39.3701
MILES = 0.000621371


def to_feet(metres):
    """Convert a length in metres to feet."""
    if metres < 0:
        raise ValueError("a length is not negative")
    return metres * FEET


def to_yards(metres):
    """Convert a length in metres to yards."""
    if metres < 0:
        raise ValueError("a length is not negative")
    return metres * YARDS


def to_inches(metres):
    """Convert a length in metres to inches."""
    if metres < 0:
        raise ValueError("a length is not negative")
    return metres * INCHES


def to_miles(metres):
    """Convert a length in metres to miles."""
    if metres < 0:
        raise ValueError("a length is not negative")
    return metres * MILES


def from_feet(feet):
    """Convert a length in feet to metres."""
    if feet < 0:
        raise ValueError("a length is not negative")
    return feet / FEET


def from_yards(yards):
    """Convert a length in yards to metres."""
    if yards < 0:
        raise ValueError("a length is not negative")
    return yards / YARDS

"""Small sums over lists of numbers."""


def total(numbers):
    """Add up all numbers of a list."""
    found = 0
    for number in numbers:
        found += number
    return found


def product(numbers):
    """Multiply all numbers of a list."""
    found = 1
    for number in numbers:
        found *= number
    return found


def largest(numbers):
    """Find the largest number of a list."""
    found = numbers[0]
    for number in numbers:
        found = max(found, number)
    return found


def smallest(numbers):
    """Find the smallest number of a list."""
    found = numbers[0]
    for number in numbers:
        found = min(found, number)
    return found


def count_above(numbers, limit):
    """Count the numbers of a list above a limit."""
    found = 0
    for number in numbers:
        found += number > limit
    return found


def count_below(numbers, limit):
    """Count the numbers of a list below a limit."""
    found = 0
    for number in numbers:
        found += number < limit
    return found


def running_total(numbers):
    """List the sums of all numbers up to each one."""
    found = []
    for number in numbers:
        found.append(number + (found[-1] if found else 0))
    return found

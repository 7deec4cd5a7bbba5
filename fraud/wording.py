"""How one feature is spoken of: its family, its codes and its sentence.

A sentence is a template: ``{value}`` in the feature's form, ``{amount}`` of the transaction, ``{small}`` for what a
small payment is, ``(one|many)`` for what agrees with the number. The low code stands below ``low_below``: a score can
be raised by a value because it is small, and then "many cards" would be a lie.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Wording:
    """How one feature is spoken of.

    Parameters
    ----------
    family
        What it speaks of; a family gives one reason.
    code, low_code, low_below
        Code of a value at or above ``low_below``; of one below.
    form
        How the value is written: ``whole``, ``money``, ``share``, ``times``, ``sigmas``, ``span`` (seconds),
        ``hour``, ``weekday`` or ``channel``.
    text
        Template of the sentence.
    low_text
        Template below ``low_below``.
    unknown
        What is not known when the value is null.
    unknown_code
        Its code.
    total
        Feature of which the value is a part, when the sentence gives the share; else empty.
    """

    family: str
    code: str
    low_code: str
    low_below: float
    form: str
    text: str
    low_text: str
    unknown: str
    unknown_code: str
    total: str = ""

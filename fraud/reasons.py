"""Reason codes: from exact attributions to at most three short whys that an analyst can read and a program can count.

Attributions add up, so those of features that say the same thing are summed into their *family* (what they speak of, such
as ``card.velocity``) and a family gives at most one reason: that of its heaviest feature, weighing what the whole family
weighs. A family that on balance speaks for the customer gives none. Codes are stable; sentences carry the values.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from fraud.features import FEATURE_NAMES
from fraud.policy import Reason
from fraud.transaction import CHANNELS, Transaction
from fraud.velocity import FloatArray
from fraud.wording import Form, money, plural, word
from fraud.windows import DAY, HOUR, SMALL_AMOUNT_MINOR, WINDOWS

LIMIT: Final = 3

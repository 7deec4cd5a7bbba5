"""Tests; a package, because some distributions install a package of this name that would hide it."""

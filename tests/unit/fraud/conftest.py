"""Properties are about values: the first example of a compiled function also pays for its compilation."""

from hypothesis import settings

settings.register_profile("values", deadline=None)
settings.load_profile("values")

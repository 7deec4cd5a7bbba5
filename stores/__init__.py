"""Feast plug-ins: an offline store that joins as of a time, online stores that never go back, read plans."""

"""From an approved challenger to all traffic: shadow, canary, full, and back."""

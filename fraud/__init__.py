"""The core: words and arithmetic of card-fraud scoring, with no network, no clock, no randomness and no disk."""

"""From a transaction to a decision: the inference container."""

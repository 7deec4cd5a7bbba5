"""History to model: import, backfill, labels, point-in-time training set, split, fit, evaluate."""

"""Is it healthy: latency, freshness, drift, parity, performance on mature labels."""

"""A seeded world of card payments: cards, merchants, seasons, fraud that adapts and labels that come late."""

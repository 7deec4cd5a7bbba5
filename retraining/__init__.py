"""The weekly loop: from a schedule to a new champion, or a refusal with reasons."""

"""JSON schemas of replies and of written rows."""

"""Users, sign-in, tokens, keys."""

"""The front door: verifies tokens, limits, routes by prefix, streams."""

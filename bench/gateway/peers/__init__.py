"""Other proxies, as their own documentation sets them up."""

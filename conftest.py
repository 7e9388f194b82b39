"""Fixtures every package's tests share."""

pytest_plugins = ["common.testing"]

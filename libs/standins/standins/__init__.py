"""Scripted OpenAI, Google and Slack servers for tests and benchmarks: real HTTP for the real SDKs."""

"""The ask story: prompts, model calls, streams, usage."""

"""Uploads, jobs, transcripts, summaries."""

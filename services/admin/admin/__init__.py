"""The ops API: stats, queues, documents, games."""

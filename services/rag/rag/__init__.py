"""Embeddings, retrieval, answer caches."""

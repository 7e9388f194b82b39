"""Postgres and Redis from wheels, and all services in one terminal."""

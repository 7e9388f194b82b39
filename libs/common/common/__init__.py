"""The floor under every service: app factory, settings, logs, errors, db, redis, http, identity, jobs, telemetry."""

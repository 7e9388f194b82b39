"""Redis clients with bounded pools and waits."""

from redis.asyncio import BlockingConnectionPool, Redis

COMMAND_TIMEOUT_SECONDS = 1.0


def redis_client(url: str, *, connections: int = 50) -> Redis:
    """A client of one Redis instance; it connects on first use. Replies are bytes.

    Commands fail with `redis.RedisError` after `COMMAND_TIMEOUT_SECONDS`; nothing is retried here, because what an
    outage means (open, closed or a local fallback) differs from use to use.
    """
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=connections,
        timeout=COMMAND_TIMEOUT_SECONDS,
        socket_timeout=COMMAND_TIMEOUT_SECONDS,
        socket_connect_timeout=COMMAND_TIMEOUT_SECONDS,
        protocol=3,
        retry=None,
    )
    return Redis.from_pool(pool)

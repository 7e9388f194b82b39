"""What the gateway costs: its throughput and added latency beside other proxies, all before one stand-in."""

"""The executors' side: the only place that speaks gRPC, and so the only one with asyncio."""

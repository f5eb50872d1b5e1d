"""The client for asyncio. `labkeep.client._sync` is generated from this folder by scripts/unasync.py."""

# Generated from labkeep/client/_async/__init__.py by scripts/unasync.py: change that file instead.
"""The client for asyncio. `labkeep.client._sync` is generated from this folder by scripts/unasync.py."""

"""Finds or makes the programs that the local ground and the engine need; nothing is assumed to be there.

Looked for in the folder that LIFEBOAT_TOOLS names, on PATH (where any new enough version does) and in the cache. What is made
is made once, into the user's cache folder, by one process at a time. `bootstrap` is apart: it runs before anything is there.
"""

from local.toolchain.toolset import Toolset, dynamodb_local, ensure, find

__all__ = ["Toolset", "dynamodb_local", "ensure", "find"]

"""Server of the browser player: its files from memory, and the native engine's frames, on loopback.

Neither an exported form nor a source of motion, so it has a folder of its own.
"""

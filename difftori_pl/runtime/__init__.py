"""The process of a command: threads, memory and messages."""

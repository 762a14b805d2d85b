"""The worker: the keeper that decides, the lanes that do, and what it remembers."""

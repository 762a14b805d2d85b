"""Real engines for tests, and images made of this host's files."""

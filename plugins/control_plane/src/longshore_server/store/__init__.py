"""What the server remembers: one SQLite file, one writer, readers apart."""

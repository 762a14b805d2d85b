"""What comes with the kernel, found through the same entry points as everyone else's."""

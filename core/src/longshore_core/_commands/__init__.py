"""The sub-commands of `longshore` that come with the kernel, one module each."""

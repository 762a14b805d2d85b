"""`longshore sandbox`: sandboxes from a shell, in the manner of docker and kubectl.

Each command is a module of its own, imported when it is invoked.
"""

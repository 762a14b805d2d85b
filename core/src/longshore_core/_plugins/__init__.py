"""The two doors to plugins: the catalogue loads one of N by name, hooks check and call it."""

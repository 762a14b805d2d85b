"""The conformance kit for pytest: `pytest --pyargs longshore_core.conformance --driver=NAME`."""

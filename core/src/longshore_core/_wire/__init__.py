"""The worker's end of the wire: gRPC to the server, and conversion between its words and ours."""

"""Code generated from `protos/`: regenerate with `make proto`, never edit."""

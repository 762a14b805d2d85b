"""Decisions, pure: the life of a container, what a survey means, what the host has to give."""

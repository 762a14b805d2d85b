"""What any Longshore application needs, and nothing of what one of them does."""

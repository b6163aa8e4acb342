"""What can be configured: options, where they come from, and what their text means."""

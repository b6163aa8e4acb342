"""The management API and its page: translates between HTTP and the registry. Knows nothing of links and streams."""

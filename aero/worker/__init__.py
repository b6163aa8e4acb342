"""The worker role: targets, dialling the server, reconnecting."""

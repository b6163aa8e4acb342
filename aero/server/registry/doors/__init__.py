"""Where visitors come in: a door for each protocol, opened for a mapping on one port."""

"""What is seen of a server from outside: numbers, events, throughput, a dump of its state."""

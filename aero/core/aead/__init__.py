"""AES-128-GCM by whatever this host has: three backends that give the same bytes, and the choice among them."""

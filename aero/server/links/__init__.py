"""From accept to session: handshakes, joining, taking over. Knows who may come in, not what is behind them."""

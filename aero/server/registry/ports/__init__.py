"""Which port a mapping gets: who may have it, who has it, and how it is bound."""

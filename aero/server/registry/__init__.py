"""Who is here and what they offer: workers, their mappings, the ports those have, visitors who wait."""

"""Where an encoder's selected patches lie: records and tables."""

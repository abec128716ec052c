"""What garments are made of: composition texts as parts, fibres and percentages."""

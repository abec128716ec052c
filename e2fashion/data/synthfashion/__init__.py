"""SynthFashion: rendered garments in which the region of every tag is known."""

"""Where an encoder looks: selection maps, attention, rollout and occlusion, against true regions and in figures."""

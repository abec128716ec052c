"""Regional contrastive learning of expressive fashion representations: E2 and CLIP fine-tuning."""

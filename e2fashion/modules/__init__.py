"""Training with Lightning: modules, optimisers, schedules and callbacks."""

"""A model's life: registry, pointer, life cycle, training runs, gates and the guard."""

"""Model lifecycle: registry, pointer, training runs, gates and the guard."""

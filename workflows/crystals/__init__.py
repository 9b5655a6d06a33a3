"""Properties of a crystal: equations of state, elasticity, phonons, strength, surfaces, formation."""

"""Planted values are looked for wherever a step could leave them, and tables that differ by one person are compared."""

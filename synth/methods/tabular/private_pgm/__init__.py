"""Methods that measure chosen tables and fit a graphical model to them: Private-PGM, by its authors' package."""

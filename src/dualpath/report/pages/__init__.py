"""HTML pages: one file each, no network, no script. templates/ says how they look, the rest what they say."""

"""The frozen backbone, the trained adapters, and framesets. Knows no video files."""

"""From bytes on a disk or a URL to pictures; `video.decode` is the way in."""

"""What a whole clip is: MP4 boxes, and parts of a file."""

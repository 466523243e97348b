"""Image files: decoding them, finding them, and remembering which are labelled."""

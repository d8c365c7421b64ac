"""Files to text: what they are, and their parsing in a process of its own."""

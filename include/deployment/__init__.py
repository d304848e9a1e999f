"""What one deployment sets and connects to: settings, connections, and servers that are away for a while."""

"""The embedded AWS: starts on one machine what the synthesized templates declare."""

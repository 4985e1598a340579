"""One checkout's request: the prepared and the full decision, their floor and their peers, against one stub."""

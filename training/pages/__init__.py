"""What the pages for people share: the look of their HTML and of their figures."""

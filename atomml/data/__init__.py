"""Reading and checking structures and data sets."""

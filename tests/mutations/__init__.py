"""Small programs and edits of them: which must give a function a new identity, and which must keep it."""

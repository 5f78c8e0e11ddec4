"""What models said, kept on disk: the store, predictions on plain samples, tutors' answers on views."""

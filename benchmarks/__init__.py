"""Speed beside that of others: one module per figure, and peers side by side with us in the same run."""

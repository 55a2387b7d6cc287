"""Looking at what is in the store: sheets of artifacts and runs, their differences, and their decoded rows."""

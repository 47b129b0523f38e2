"""Files: objects by digest, records, locks; every commit atomic."""

"""What a curation will take: attempts, tokens, hours, bytes and money, before it is started."""

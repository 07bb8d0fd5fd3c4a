"""The character domain: from a character's members to its published LoRA, one partition per character."""

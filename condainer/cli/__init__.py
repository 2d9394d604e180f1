"""What the commands share: options, completion, messages, tables; and `hit`, their quick way."""

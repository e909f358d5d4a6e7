"""What runs on events: event -> handler -> plan -> transfer -> record -> metric. Knows nothing of any other room."""

"""Text-guided retrieval: tasks, records, tables and figures."""

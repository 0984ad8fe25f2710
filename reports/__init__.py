"""What people read: studies, records, tables, figures, pages."""

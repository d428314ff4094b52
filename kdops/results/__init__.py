"""What runs showed: statistics, tables, pictures; read from their JSON files."""

"""What a memory must stand: kills at any moment, hostile files, hundreds of updates."""

"""What benchmarks write and print: records, tables, progress and figures."""

"""The memory inside other frameworks than Avalanche: Lightning and Mammoth. Each is imported where it is asked for."""
